package localcluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/conclave-rtc/conclave/localcluster/netfault"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// Config describes a cluster.
type Config struct {
	// Binary is the conclave executable.
	Binary string
	// Replicas is how many; 3 by default.
	Replicas int
	// Dir holds the data folders and logs.
	Dir string
	// Args are flags of serve that every replica gets.
	Args []string
	// Network, if any, stands between the replicas: each is a process of it by its ID, and
	// advertises addresses in front of its own.
	Network *netfault.Network
}

// Cluster is a set of replicas on this machine.
type Cluster struct {
	replicas []*Replica
}

// New chooses ports and names; nothing is started yet.
func New(c Config) (*Cluster, error) {
	if c.Replicas == 0 {
		c.Replicas = 3
	}
	ports, err := FreePorts(3 * c.Replicas)
	if err != nil {
		return nil, err
	}
	cluster := new(Cluster)
	for i := range c.Replicas {
		id := fmt.Sprintf("gc-%d", i+1)
		r := &Replica{
			ID:       id,
			DataDir:  filepath.Join(c.Dir, id),
			LogPath:  filepath.Join(c.Dir, id+".log"),
			GRPCAddr: ports[3*i],
			RaftAddr: ports[3*i+1],
			HTTPAddr: ports[3*i+2],
			binary:   c.Binary,
		}
		cluster.replicas = append(cluster.replicas, r)
	}
	if err := cluster.setArgs(c); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cluster's folder: %w", err)
	}
	return cluster, nil
}

// setArgs decides how each replica is started.
func (c *Cluster) setArgs(config Config) error {
	var initial []string
	for _, r := range c.replicas {
		r.args = []string{
			"serve", "--node-id", r.ID, "--data-dir", r.DataDir,
			"--grpc-addr", r.GRPCAddr, "--raft-addr", r.RaftAddr, "--http-addr", r.HTTPAddr,
		}
		raftAdvertise := r.RaftAddr
		if config.Network != nil {
			var grpcAdvertise string
			var err error
			if raftAdvertise, grpcAdvertise, err = r.joinNetwork(config.Network); err != nil {
				return err
			}
			r.args = append(r.args, "--raft-advertise", raftAdvertise, "--grpc-advertise", grpcAdvertise)
		}
		initial = append(initial, r.ID+"="+raftAdvertise)
	}
	for _, r := range c.replicas {
		r.args = append(append(r.args, "--initial-cluster", strings.Join(initial, ",")), config.Args...)
	}
	return nil
}

// joinNetwork makes a replica a process of the network.
func (r *Replica) joinNetwork(n *netfault.Network) (raftAdvertise, grpcAdvertise string, err error) {
	n.Process(r.ID, r.PID)
	if raftAdvertise, err = n.Expose(r.ID, r.RaftAddr); err != nil {
		return "", "", err
	}
	grpcAdvertise, err = n.Expose(r.ID, r.GRPCAddr)
	return raftAdvertise, grpcAdvertise, err
}

// Start starts every replica that does not run.
func (c *Cluster) Start() error {
	for _, r := range c.replicas {
		if err := r.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends every replica with SIGTERM, and with SIGKILL those that do not end in time.
func (c *Cluster) Stop() {
	done := make(chan struct{}, len(c.replicas))
	for _, r := range c.replicas {
		go func() {
			r.Terminate(10 * time.Second)
			done <- struct{}{}
		}()
	}
	for range c.replicas {
		<-done
	}
}

// Replicas returns all replicas. The slice must not be changed.
func (c *Cluster) Replicas() []*Replica { return c.replicas }

// Targets are the gRPC addresses of all replicas, comma separated.
func (c *Cluster) Targets() string {
	var addrs []string
	for _, r := range c.replicas {
		addrs = append(addrs, r.GRPCAddr)
	}
	return strings.Join(addrs, ",")
}

// Leader waits until a replica says that it leads, and no other running one names another
// leader in a newer term.
func (c *Cluster) Leader(ctx context.Context) (*Replica, error) {
	for {
		if leader := c.leaderNow(ctx); leader != nil {
			return leader, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("no replica leads: %w", context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *Cluster) leaderNow(ctx context.Context) *Replica {
	var leader *Replica
	var term uint64
	for _, r := range c.replicas {
		if !r.Running() {
			continue
		}
		status, err := r.Status(ctx)
		if err != nil || status.Term < term {
			continue
		}
		if status.Term > term {
			term, leader = status.Term, nil
		}
		if status.LeaderId == r.ID {
			leader = r
		}
	}
	return leader
}

// statusTimeout bounds one question to a replica: it may be stopped.
const statusTimeout = time.Second

// Status asks the replica how it is.
func (r *Replica) Status(ctx context.Context) (*conclavev1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	conn, err := r.Conn()
	if err != nil {
		return nil, err
	}
	return conclavev1.NewClusterServiceClient(conn).GetStatus(ctx, &conclavev1.GetStatusRequest{})
}

// Conn returns the connection to the replica. It outlives restarts.
func (r *Replica) Conn() (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		conn, err := grpc.NewClient(r.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(quickReconnect))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", r.ID, err)
		}
		r.conn = conn
	}
	return r.conn, nil
}
