package raftnode

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
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
	parallel  *parallelLog
	transport *transport
	raft      *raft.Raft // set before started is closed
	machine   *fsm.Machine
	applied   watermark
	growth    growth
	clock     stampClock

	lanes    [lanes]*batch.Batcher[[]*commandv1.Command, []fsm.Result]
	reads    batch.Rounds[ReadIndex]
	leading  atomic.Pointer[Leadership]
	version  atomic.Pointer[knownVersion]
	changed  atomic.Pointer[chan struct{}] // closed at the next change of leader
	started  chan struct{}                 // closed once raft is set
	done     chan struct{}
	tasks    sync.WaitGroup
	shutdown sync.Once

	entry      sync.Mutex // guards the beginning of Raft
	closed     bool
	applicants applicants
	met        sync.Map // server ids of new replicas that have asked
	woken      chan struct{}
}

// Open starts a replica on its data folder. It returns before there is a leader, and on a new folder
// before there is a cluster.
func Open(c Config) (*Node, error) {
	if err := c.check(); err != nil {
		return nil, &ConfigError{err}
	}
	if isNewDataDir(c.DataDir) {
		// Nothing may be left of a start that is refused.
		if err := c.checkInitialCluster(); err != nil {
			return nil, &ConfigError{err}
		}
	}
	dir, err := openDataDir(c.DataDir, c.NodeID, c.LogStore)
	if err != nil {
		return nil, err
	}
	stores, err := dir.openStores(&c)
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
		woken:   make(chan struct{}, 1),
	}
	n.parallel = newParallelLog(stores.log, n.leads)
	n.changed.Store(new(make(chan struct{})))
	if err := n.start(); err != nil {
		return nil, errors.Join(err, stores.close(), dir.close())
	}
	return n, nil
}

// openStores opens the stores of a folder that has joined, if nothing is missing from them, or
// empty ones.
func (d *dataDir) openStores(c *Config) (*stores, error) {
	var err error
	if d.self().Joined {
		err = checkStores(c.DataDir, c.LogStore)
	} else if err = c.checkInitialCluster(); err != nil {
		err = &ConfigError{err}
	} else {
		err = d.clear()
	}
	if err != nil {
		return nil, err
	}
	s, err := openStores(c.DataDir, c.LogStore, c.Logger, c.Fatal)
	if err != nil {
		return nil, err
	}
	if err := s.dropOutdatedLog(c.Logger); err != nil {
		return nil, errors.Join(fmt.Errorf("the data folder %s: %w", c.DataDir, err), s.close())
	}
	return s, nil
}

// start answers the other replicas, and runs Raft if it is known with whom.
func (n *Node) start() error {
	listener := n.config.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", n.config.RaftAddress); err != nil {
			return fmt.Errorf("listen for replicas: %w", err)
		}
	}
	for i := range n.lanes {
		n.lanes[i] = batch.NewGroupBatcher(laneLimits[i], n.done, n.commit)
	}
	self := n.dir.self()
	address := serverAddress(self.serverID(), n.config.RaftAdvertise)
	n.entry.Lock() // who calls waits until there is a transport for Raft
	stream := newStreamLayer(listener, address, n.introduce, n.receive, n.log.Named("transport"))
	n.transport = newTransport(stream, n.parallel, n.inTerm, n.leadsServer, n.committedIn, n.dir.path, n.log)
	n.entry.Unlock()
	if err := n.begin(self); err != nil {
		return errors.Join(err, n.transport.Close())
	}
	n.tasks.Go(n.seek)
	return nil
}

// begin runs Raft on a folder that has joined, and in a cluster of one.
func (n *Node) begin(self identity) error {
	if self.Joined {
		n.entry.Lock()
		defer n.entry.Unlock()
		return n.startRaft()
	}
	if servers, ok := founders(self, &n.config, nil); ok {
		return n.found(servers)
	}
	return nil
}

// startRaft is called once, with n.entry held.
func (n *Node) startRaft() error {
	changes := make(chan bool, 1)
	rc := n.raftConfig()
	rc.NotifyCh = changes
	cache, err := raft.NewLogCache(1024, n.parallel)
	if err != nil {
		return fmt.Errorf("make the log cache: %w", err)
	}
	sm := &applier{machine: n.machine, log: n.parallel, applied: &n.applied, growth: &n.growth, metrics: n.metrics, fatal: n.config.Fatal}
	n.raft, err = n.newRaft(rc, sm, cache)
	if err != nil {
		return err
	}
	n.stores.log.running.Store(true)
	close(n.started)
	n.observe()
	n.tasks.Go(func() { n.followLeadership(changes) })
	n.tasks.Go(n.compact)
	n.tasks.Go(n.watchLeader)
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	rc := n.config.raftConfig()
	rc.LocalID = n.dir.self().serverID()
	return rc
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

// running is Raft once it runs, nil before.
func (n *Node) running() *raft.Raft {
	select {
	case <-n.started:
		return n.raft
	default:
		return nil
	}
}

// leads says whether raft takes this replica for the leader.
func (n *Node) leads() bool {
	r := n.running()
	return r != nil && r.State() == raft.Leader
}

// leadsIn says whether this replica leads in a term, ready or not. (Raft asks through its transport
// before NewRaft has returned.)
func (n *Node) leadsIn(term uint64) bool {
	return n.leads() && n.raft.CurrentTerm() == term
}

// inTerm says whether this replica is in a term.
func (n *Node) inTerm(term uint64) bool {
	r := n.running()
	return r != nil && r.CurrentTerm() == term
}

// leadsServer says whether this replica leads another one in a term.
func (n *Node) leadsServer(id raft.ServerID, term uint64) bool {
	return n.leadsIn(term) && slices.ContainsFunc(n.servers(), isServer(id))
}

// committed is the commit index, as far as it is on this disk: a leader that dies may lose what is not.
// Everything that was acknowledged is below.
func (n *Node) committed() uint64 {
	r := n.running()
	if r == nil {
		return 0
	}
	return n.parallel.storedUpTo(r.CommitIndex())
}

// committedIn is the commit index when this replica leads in a term, else 0. The index is looked at
// first: one that leads afterwards led then, and what it has committed is of its own log.
func (n *Node) committedIn(term uint64) uint64 {
	if index := n.committed(); n.leadsIn(term) {
		return index
	}
	return 0
}

// Machine is the replicated state machine, for reading.
func (n *Node) Machine() *fsm.Machine { return n.machine }

// ID is this replica's node id.
func (n *Node) ID() string { return n.config.NodeID }

// Leader is the node id of the leader as this replica knows it, empty when it knows none.
func (n *Node) Leader() string {
	r := n.running()
	if r == nil {
		return ""
	}
	_, id := r.LeaderWithID()
	return nodeOf(id)
}

// LeaderChanged returns a channel that is closed when Leader next changes, to nobody included.
func (n *Node) LeaderChanged() <-chan struct{} { return *n.changed.Load() }

// servers is the latest Raft configuration.
func (n *Node) servers() []raft.Server {
	r := n.running()
	if r == nil {
		return nil
	}
	// The future is done when it is returned and never fails.
	return r.GetConfiguration().Configuration().Servers
}

// Member is a replica of the Raft configuration. While a new data folder takes the place of one that
// is gone, there are two of the same id.
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
	r := n.running()
	if r == nil {
		return Status{}
	}
	s := Status{
		Leader:      n.Leader(),
		Term:        r.CurrentTerm(),
		CommitIndex: n.committed(),
		LastIndex:   r.LastIndex(),
	}
	for _, server := range n.servers() {
		_, at := splitAddress(server.Address)
		s.Members = append(s.Members, Member{
			ID: nodeOf(server.ID), RaftAddress: at, Voter: server.Suffrage == raft.Voter,
		})
	}
	return s
}

// HandOver gives the leadership to another replica, if this one leads and there is one.
func (n *Node) HandOver(ctx context.Context) error {
	if r := n.running(); r == nil || r.State() != raft.Leader || len(n.servers()) == 1 {
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
		n.entry.Lock()
		n.closed = true
		n.entry.Unlock()
		if r := n.running(); r != nil {
			errs = append(errs, r.Shutdown().Error())
		}
		errs = append(errs, n.transport.Close())
		close(n.done)
		n.tasks.Wait()
		errs = append(errs, n.parallel.await(math.MaxUint64), n.stores.close(), n.dir.close())
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("shut down raft: %w", err)
	}
	return nil
}
