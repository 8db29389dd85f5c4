package etcdcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

// members is how many a cluster has.
const members = 3

// Config describes a cluster.
type Config struct {
	// Dir holds the data folders and logs.
	Dir string
	// Heartbeat and Election are etcd's --heartbeat-interval and --election-timeout, in whole
	// milliseconds; 0 leaves etcd's default. Election must be at least 5 times Heartbeat.
	Heartbeat, Election time.Duration
	// Args come first on a member's command line: with them this binary calls Serve.
	Args []string
	// PeerAddr, if any, gives the address that a member advertises to the others instead of the one
	// on which it listens for them: that of something in between.
	PeerAddr func(id, listen string) (string, error)
}

// Cluster is a set of members on this machine.
type Cluster struct {
	members []*Member
}

// New chooses ports and names; nothing is started yet.
func New(c Config) (*Cluster, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the binary of the members: %w", err)
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, fmt.Errorf("find the cluster's folder: %w", err)
	}
	ports, err := localcluster.FreePorts(2 * members)
	if err != nil {
		return nil, err
	}
	cluster := new(Cluster)
	for i := range members {
		id := fmt.Sprintf("etcd-%d", i+1)
		cluster.members = append(cluster.members, &Member{
			ID: id, ClientAddr: ports[2*i], PeerAddr: ports[2*i+1],
			LogPath: filepath.Join(c.Dir, id+".log"), binary: self,
		})
	}
	if err := cluster.setArgs(c); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cluster's folder: %w", err)
	}
	return cluster, nil
}

// setArgs decides how each member is started.
func (c *Cluster) setArgs(config Config) error {
	var initial []string
	all := make([]*settings, len(c.members))
	for i, m := range c.members {
		s := newSettings()
		s.name, s.dataDir = m.ID, filepath.Join(config.Dir, m.ID)
		s.clientAddr, s.peerAddr, s.peerAdvertise = m.ClientAddr, m.PeerAddr, m.PeerAddr
		if config.Heartbeat != 0 {
			s.heartbeat = config.Heartbeat
		}
		if config.Election != 0 {
			s.election = config.Election
		}
		if config.PeerAddr != nil {
			var err error
			if s.peerAdvertise, err = config.PeerAddr(m.ID, m.PeerAddr); err != nil {
				return fmt.Errorf("advertise %s: %w", m.ID, err)
			}
		}
		initial = append(initial, m.ID+"=http://"+s.peerAdvertise)
		all[i] = s
	}
	for i, m := range c.members {
		all[i].initialCluster = strings.Join(initial, ",")
		if _, err := all[i].config(); err != nil { // now, rather than in the log of a process
			return fmt.Errorf("settings of %s: %w", m.ID, err)
		}
		m.args = append(append([]string{}, config.Args...), all[i].args()...)
	}
	return nil
}

// Start starts every member that does not run. It does not wait for them.
func (c *Cluster) Start() error {
	for _, m := range c.members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends every member with SIGKILL, which etcd survives as it does SIGTERM, and closes the
// connections to them.
func (c *Cluster) Stop() {
	for _, m := range c.members {
		_ = m.Kill() // it may have ended already, or never been started
		m.closeConn()
	}
}

// Members returns all members. The slice must not be changed.
func (c *Cluster) Members() []*Member { return c.members }

// Endpoints are the client addresses of all members, as host:port.
func (c *Cluster) Endpoints() []string {
	var addrs []string
	for _, m := range c.members {
		addrs = append(addrs, m.ClientAddr)
	}
	return addrs
}

// Leader waits until a member says that it leads, and no other running one names another leader in
// a newer term.
func (c *Cluster) Leader(ctx context.Context) (*Member, error) {
	for {
		if leader := c.leaderNow(ctx); leader != nil {
			return leader, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no member leads: %w", context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *Cluster) leaderNow(ctx context.Context) *Member {
	var leader *Member
	var term uint64
	for _, m := range c.members {
		if !m.Running() {
			continue
		}
		status, err := m.Status(ctx)
		if err != nil || status.RaftTerm < term {
			continue
		}
		if status.RaftTerm > term {
			term, leader = status.RaftTerm, nil
		}
		if status.Leader != 0 && status.Leader == status.Header.MemberId {
			leader = m
		}
	}
	return leader
}
