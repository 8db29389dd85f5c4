package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Node is one replica's Raft node. Its methods may be called from several goroutines.
type Node struct {
	config    Config
	log       hclog.Logger
	metrics   *Metrics
	dir       *dataDir
	stores    *stores
	transport *transport
	raft      *raft.Raft
	machine   *fsm.Machine
	applied   watermark
	clock     stampClock

	lanes    [lanes]*batch.Batcher[[]*commandv1.Command, []fsm.Result]
	reads    batch.Rounds[ReadIndex]
	leading  atomic.Pointer[Leadership]
	changed  atomic.Pointer[chan struct{}] // closed at the next change of leader
	started  chan struct{}                 // closed once raft is set
	done     chan struct{}
	tasks    sync.WaitGroup
	shutdown sync.Once
}

// Open starts a replica on its data folder. It returns before there is a leader.
func Open(c Config) (*Node, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if isNewDataDir(c.DataDir) {
		// Nothing may be left of a start that is refused.
		if _, err := c.bootstrapConfiguration(); err != nil {
			return nil, err
		}
	}
	dir, err := openDataDir(c.DataDir, c.NodeID, c.LogStore)
	if err != nil {
		return nil, err
	}
	if !dir.isNew {
		if err := checkStores(c.DataDir, c.LogStore); err != nil {
			return nil, errors.Join(err, dir.close())
		}
	}
	stores, err := openStores(c.DataDir, c.LogStore, c.Logger, c.Fatal)
	if err != nil {
		return nil, errors.Join(err, dir.close())
	}
	n := &Node{
		config:  c,
		log:     c.Logger,
		metrics: c.Metrics,
		dir:     dir,
		stores:  stores,
		machine: fsm.NewMachine(c.Observer),
		started: make(chan struct{}),
		done:    make(chan struct{}),
	}
	n.changed.Store(new(make(chan struct{})))
	if err := n.start(); err != nil {
		return nil, errors.Join(err, stores.close(), dir.close())
	}
	return n, nil
}

func (n *Node) start() error {
	listener := n.config.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", n.config.RaftAddress); err != nil {
			return fmt.Errorf("listen for replicas: %w", err)
		}
	}
	n.transport = newTransport(listener, n.config.RaftAdvertise, n.stores.log, n.leadsIn, n.log)
	changes := make(chan bool, 1)
	rc := n.config.raftConfig(changes)
	cache, err := raft.NewLogCache(1024, n.stores.log)
	if err != nil {
		return errors.Join(fmt.Errorf("make the log cache: %w", err), n.transport.Close())
	}
	if err := n.bootstrap(rc, cache); err != nil {
		return errors.Join(err, n.transport.Close())
	}
	sm := &applier{machine: n.machine, applied: &n.applied, metrics: n.metrics, fatal: n.config.Fatal}
	for i := range n.lanes {
		n.lanes[i] = batch.NewBatcher(laneLimits, n.done, n.commit)
	}
	n.raft, err = n.newRaft(rc, sm, cache)
	if err != nil {
		return errors.Join(err, n.transport.Close())
	}
	close(n.started)
	n.observe()
	n.tasks.Go(func() { n.followLeadership(changes) })
	return nil
}

// newRaft makes an error of a panic: raft panics when an entry of the log is damaged, or the log
// does not go on where the snapshot ends.
func (n *Node) newRaft(rc *raft.Config, sm raft.FSM, logs raft.LogStore) (r *raft.Raft, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the data folder %s is damaged: its log cannot be read from where its snapshot ends: %v", n.dir.path, cause)
		}
	}()
	r, err = raft.NewRaft(rc, sm, logs, n.stores.stable, n.stores.snapshots, n.transport)
	if err != nil {
		return nil, fmt.Errorf("start raft on the data folder %s: %w", n.dir.path, err)
	}
	return r, nil
}

// leadsIn says whether this replica leads in a term, ready or not.
func (n *Node) leadsIn(term uint64) bool {
	select {
	case <-n.started:
	default:
		return false // raft asks through its transport before NewRaft has returned
	}
	return n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term
}

// bootstrap writes the initial cluster into a new data folder.
func (n *Node) bootstrap(rc *raft.Config, logs raft.LogStore) error {
	if !n.dir.isNew {
		return nil
	}
	exists, err := raft.HasExistingState(logs, n.stores.stable, n.stores.snapshots)
	if err != nil {
		return fmt.Errorf("look for existing Raft state: %w", err)
	}
	if exists { // the first start was cut short
		return n.dir.claim()
	}
	conf, err := n.config.bootstrapConfiguration()
	if err != nil {
		return err
	}
	if err := raft.BootstrapCluster(rc, logs, n.stores.stable, n.stores.snapshots, n.transport, conf); err != nil {
		return fmt.Errorf("write the initial cluster: %w", err)
	}
	return n.dir.claim()
}

// Machine is the replicated state machine, for reading.
func (n *Node) Machine() *fsm.Machine { return n.machine }

// ID is this replica's node id.
func (n *Node) ID() string { return n.config.NodeID }

// Leader is the node id of the leader as this replica knows it, empty when it knows none.
func (n *Node) Leader() string {
	_, id := n.raft.LeaderWithID()
	return string(id)
}

// LeaderChanged returns a channel that is closed when Leader next changes, to nobody included.
func (n *Node) LeaderChanged() <-chan struct{} { return *n.changed.Load() }

// servers is the latest Raft configuration.
func (n *Node) servers() []raft.Server {
	// The future is done when it is returned and never fails.
	return n.raft.GetConfiguration().Configuration().Servers
}

// Member is a replica of the Raft configuration.
type Member struct {
	ID          string
	RaftAddress string
	Voter       bool
}

// Status is this replica's place in the log.
type Status struct {
	Leader      string
	Term        uint64
	CommitIndex uint64
	LastIndex   uint64
	Members     []Member
}

// Status describes the log as this replica sees it; it needs no quorum.
func (n *Node) Status() Status {
	s := Status{
		Leader:      n.Leader(),
		Term:        n.raft.CurrentTerm(),
		CommitIndex: n.raft.CommitIndex(),
		LastIndex:   n.raft.LastIndex(),
	}
	for _, server := range n.servers() {
		s.Members = append(s.Members, Member{
			ID: string(server.ID), RaftAddress: string(server.Address), Voter: server.Suffrage == raft.Voter,
		})
	}
	return s
}

// HandOver gives the leadership to another replica, if this one leads and there is one.
func (n *Node) HandOver(ctx context.Context) error {
	if n.raft.State() != raft.Leader || len(n.servers()) == 1 {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- n.raft.LeadershipTransfer().Error() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("hand over the leadership: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hand over the leadership: %w", context.Cause(ctx))
	}
}

// Shutdown stops the replica and closes its disks. What is under way ends with ErrInDoubt.
func (n *Node) Shutdown() error {
	var errs []error
	n.shutdown.Do(func() {
		errs = append(errs, n.raft.Shutdown().Error(), n.transport.Close())
		close(n.done)
		n.tasks.Wait()
		errs = append(errs, n.stores.close(), n.dir.close())
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("shut down raft: %w", err)
	}
	return nil
}
