package raftnode

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/fsm"
)

// Server is a replica as the initial cluster names it.
type Server struct {
	ID          string
	RaftAddress string
}

// Config describes one replica.
type Config struct {
	NodeID  string
	DataDir string
	// RaftAddress is listened on, unless Listener is given.
	RaftAddress string
	Listener    net.Listener
	// RaftAdvertise is how the other replicas reach this one.
	RaftAdvertise string
	// GRPCAdvertise is how others reach this replica's gRPC services; it is replicated.
	GRPCAdvertise string
	// InitialCluster is read only until the data folder has joined a cluster. Empty: this replica
	// alone.
	InitialCluster []Server
	LogStore       LogStoreKind
	Timing         Timing
	Retention      Retention

	Logger   hclog.Logger
	Metrics  *Metrics
	Observer fsm.Observer
	// OnLead is called when this replica begins to lead, after everything that earlier terms
	// proposed is decided and applied, and before it serves as the leader. The context ends
	// with the leadership. It must return soon.
	OnLead func(n *Node, lead Leadership)
	// Fatal is called when the replica cannot go on without breaking a promise: a failed
	// fsync, a log it does not understand. It must end the process and not return.
	Fatal func(error)
}

// Timing is how fast failures are noticed. The defaults suit a LAN.
type Timing struct {
	// HeartbeatTimeout is how long a follower waits for its leader before it asks the others
	// whether they miss it too. They take turns, a fifth of this apart.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes before it tries again (1 to 2 times
	// this, drawn at random). At least the heartbeat timeout.
	ElectionTimeout time.Duration
	// LeaderLease is how long a leader goes on without hearing from a quorum; at most the
	// heartbeat timeout.
	LeaderLease time.Duration
}

// DefaultTiming gives a failover well under a second: followers notice as soon as the heartbeat
// timeout is over, and mostly elect at once; when they fail to, they try again after one to two
// election timeouts. Heartbeats go out five to ten times as often, so that a busy machine must
// stall for nearly the whole timeout before a follower even asks, and pre-vote keeps the term
// when the others still hear the leader.
var DefaultTiming = Timing{
	HeartbeatTimeout: 300 * time.Millisecond,
	ElectionTimeout:  300 * time.Millisecond,
	LeaderLease:      300 * time.Millisecond,
}

// Retention is how much of the log is kept.
type Retention struct {
	// SnapshotThreshold is how many entries since the last snapshot make a new one.
	SnapshotThreshold uint64
	// SnapshotLogBytes of the log since the last snapshot make a new one, too, if they are a quarter of
	// what that has. 0: they never do.
	SnapshotLogBytes uint64
	// SnapshotInterval is how often the thresholds are looked at: every one to two of it.
	SnapshotInterval time.Duration
	// TrailingLogs stay after a snapshot, for followers that are a little behind.
	TrailingLogs uint64
}

// DefaultRetention looks every half minute to a minute whether a snapshot is due. It keeps enough
// log for a follower that was restarted meanwhile.
var DefaultRetention = Retention{
	SnapshotThreshold: 65536,
	SnapshotLogBytes:  64 << 20,
	SnapshotInterval:  30 * time.Second,
	TrailingLogs:      32768,
}

// ConfigError is a combination of settings that cannot be: nothing was started.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

func (c *Config) check() error {
	switch {
	case c.NodeID == "":
		return errors.New("the node id is missing")
	case strings.ContainsAny(c.NodeID, instanceMark+addressMark):
		return fmt.Errorf("the node id %q must have no %s and no %s", c.NodeID, instanceMark, addressMark)
	case strings.Contains(c.RaftAdvertise, addressMark):
		return fmt.Errorf("the address %q must have no %s", c.RaftAdvertise, addressMark)
	case c.DataDir == "":
		return errors.New("the data folder is missing")
	case c.Fatal == nil || c.Metrics == nil || c.Logger == nil:
		return errors.New("raftnode: Fatal, Metrics and Logger are required")
	case c.Timing.LeaderLease > c.Timing.HeartbeatTimeout:
		return fmt.Errorf("the leader lease (%v) must not be longer than the heartbeat timeout (%v)",
			c.Timing.LeaderLease, c.Timing.HeartbeatTimeout)
	}
	if err := raft.ValidateConfig(c.raftConfig()); err != nil {
		return fmt.Errorf("the Raft timing or retention is not possible: %w", err)
	}
	return nil
}

// initialCluster is what an empty data folder begins with.
func (c *Config) initialCluster() []Server {
	if len(c.InitialCluster) == 0 {
		return []Server{{ID: c.NodeID, RaftAddress: c.RaftAdvertise}}
	}
	return c.InitialCluster
}

// initialNodes are the node ids of the initial cluster, in order.
func (c *Config) initialNodes() []string {
	var nodes []string
	for _, s := range c.initialCluster() {
		nodes = append(nodes, s.ID)
	}
	slices.Sort(nodes)
	return nodes
}

func (c *Config) checkInitialCluster() error {
	own := false
	for _, s := range c.initialCluster() {
		if strings.ContainsAny(s.ID, instanceMark+addressMark) || strings.Contains(s.RaftAddress, addressMark) {
			return fmt.Errorf("the initial cluster has %s=%s: ids must have no %s and no %s, addresses no %s",
				s.ID, s.RaftAddress, instanceMark, addressMark, addressMark)
		}
		if s.ID != c.NodeID {
			continue
		}
		own = true
		if s.RaftAddress != c.RaftAdvertise {
			return fmt.Errorf("the initial cluster says %s is at %s, but it advertises %s",
				s.ID, s.RaftAddress, c.RaftAdvertise)
		}
	}
	if !own {
		return fmt.Errorf("the initial cluster does not name this node (%s)", c.NodeID)
	}
	return c.checkAdvertised()
}

// checkAdvertised refuses addresses that are good to listen at only, where others are to reach them.
func (c *Config) checkAdvertised() error {
	if len(c.InitialCluster) < 2 {
		return nil
	}
	for _, a := range []struct{ flag, address string }{{"raft-advertise", c.RaftAdvertise}, {"grpc-advertise", c.GRPCAdvertise}} {
		host, _, err := net.SplitHostPort(a.address)
		if err == nil && (host == "" || net.ParseIP(host).IsUnspecified()) {
			return fmt.Errorf("%s: %s leads every machine to itself; name an address at which the other replicas reach this one",
				a.flag, a.address)
		}
	}
	return nil
}

func (c *Config) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.NodeID)
	rc.Logger = c.Logger.Named("raft")
	rc.HeartbeatTimeout = c.Timing.HeartbeatTimeout
	rc.ElectionTimeout = c.Timing.ElectionTimeout
	rc.LeaderLeaseTimeout = c.Timing.LeaderLease
	rc.SnapshotThreshold = c.Retention.SnapshotThreshold
	rc.SnapshotInterval = c.Retention.SnapshotInterval
	rc.TrailingLogs = c.Retention.TrailingLogs
	// One fsync and one round trip carry all entries that wait.
	rc.MaxAppendEntries = 512
	rc.BatchApplyCh = true
	// How long an idle leader lets followers wait for the news that an entry is committed: the
	// price of reading one's own write at a follower.
	rc.CommitTimeout = 10 * time.Millisecond
	rc.NoLegacyTelemetry = true
	return rc
}
