package raftnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/fsm"
	"github.com/conclave-rtc/conclave/localcluster"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// testTiming leaves a busy machine with the race detector enough time.
var testTiming = Timing{HeartbeatTimeout: 400 * time.Millisecond, ElectionTimeout: 400 * time.Millisecond, LeaderLease: 400 * time.Millisecond}

const patience = 30 * time.Second

// testCluster is a number of nodes in this process, on real sockets and disks.
type testCluster struct {
	t       *testing.T
	configs []Config
	nodes   []*Node
	logs    []*logBuffer
	// fatal is what nodes could not go on from.
	fatal chan error
}

// newTestCluster starts nodes that end with the test.
func newTestCluster(t *testing.T, n int, store LogStoreKind) *testCluster {
	t.Helper()
	c := newStoppedCluster(t, n, store)
	for i := range c.configs {
		c.start(i)
	}
	return c
}

// newStoppedCluster chooses the addresses of nodes and starts none.
func newStoppedCluster(t *testing.T, n int, store LogStoreKind) *testCluster {
	t.Helper()
	c := &testCluster{t: t, nodes: make([]*Node, n), fatal: make(chan error, 16)}
	addrs, err := localcluster.FreePorts(n) // no outgoing connection takes one while its node is down
	if err != nil {
		t.Fatal(err)
	}
	var servers []Server
	for i := range n {
		id, log := fmt.Sprintf("gc-%d", i+1), new(logBuffer)
		c.logs = append(c.logs, log)
		servers = append(servers, Server{id, addrs[i]})
		c.configs = append(c.configs, Config{
			NodeID:        id,
			DataDir:       filepath.Join(t.TempDir(), id),
			RaftAddress:   addrs[i],
			RaftAdvertise: addrs[i],
			GRPCAdvertise: id + ".example:50051",
			LogStore:      store,
			Timing:        testTiming,
			Retention:     DefaultRetention,
			Logger:        hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: log}),
			OnLead:        func(*Node, Leadership) {},
			Fatal: func(err error) { // as the end of the process would
				c.fatal <- err
				runtime.Goexit()
			},
		})
	}
	for i := range c.configs {
		c.configs[i].InitialCluster = servers
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
		select {
		case err := <-c.fatal:
			t.Error("a node could not go on:", err)
		default:
		}
		if t.Failed() {
			for i, log := range c.logs {
				t.Logf("the log of gc-%d:\n%s", i+1, log)
			}
		}
	})
	return c
}

// logBuffer is the log of a node over all of its restarts.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (c *testCluster) start(i int) {
	c.t.Helper()
	config := c.configs[i]
	config.Metrics = NewMetrics(prometheus.NewRegistry())
	n, err := Open(config)
	if err != nil {
		c.t.Fatal(err)
	}
	c.nodes[i] = n
}

func (c *testCluster) stop(i int) {
	c.t.Helper()
	if c.nodes[i] == nil {
		return
	}
	if err := c.nodes[i].Shutdown(); err != nil {
		c.t.Error(err)
	}
	c.nodes[i] = nil
}

// leader waits until a node leads and is ready.
func (c *testCluster) leader() int {
	c.t.Helper()
	found := -1
	eventually(c.t, "a leader", func() bool {
		for i, n := range c.nodes {
			if n != nil && n.Leading() != nil {
				found = i
				return true
			}
		}
		return false
	})
	return found
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}

func register(id string, registration uint64) *commandv1.Command {
	return &commandv1.Command{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
		Kind: fsm.MediaHandler, Id: id, Region: "eu", Capacity: 10, RegistrationId: registration,
	}}}
}

func (c *testCluster) propose(i int, id string) fsm.Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	r, err := c.nodes[i].Propose(ctx, Bulk, register(id, 1))
	if err != nil {
		c.t.Fatalf("propose %s: %v", id, err)
	}
	return r
}

func has(n *Node, id string) (yes bool) {
	n.Machine().View(func(s *fsm.State) { yes = s.Node(fsm.MediaHandler, id) != nil })
	return yes
}

func TestClusterKeepsWhatItAcknowledged(t *testing.T) {
	for _, store := range []LogStoreKind{LogStoreBolt, LogStoreWAL} {
		t.Run(string(store), func(t *testing.T) {
			t.Parallel()
			c := newTestCluster(t, 3, store)
			first := c.leader()
			c.propose(first, "before")
			c.stop(first) // without handing over: its listener is gone
			second := c.leader()
			if second == first {
				t.Fatal("a stopped node leads")
			}
			if !has(c.nodes[second], "before") {
				t.Fatal("the new leader was ready without what the old one acknowledged")
			}
			c.propose(second, "meanwhile")
			c.start(first)
			eventually(t, "the restarted node to catch up", func() bool { return has(c.nodes[first], "meanwhile") })
			for i := range c.nodes {
				c.stop(i)
			}
			for i := range c.nodes {
				c.start(i)
			}
			again := c.leader()
			if !has(c.nodes[again], "before") || !has(c.nodes[again], "meanwhile") {
				t.Fatal("acknowledged writes are gone after a restart of all")
			}
			sameHash(t, c)
		})
	}
}

// sameHash waits until all nodes are at the same index, and compares their states.
func sameHash(t *testing.T, c *testCluster) {
	t.Helper()
	type place struct {
		index uint64
		hash  string
	}
	eventually(t, "the same state everywhere", func() bool {
		seen := make(map[place]bool)
		for _, n := range c.nodes {
			n.Machine().View(func(s *fsm.State) { seen[place{s.Index(), s.Hash()}] = true })
		}
		return len(seen) == 1
	})
}

func TestOnlyTheLeaderProposesAndConfirms(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	leader := c.leader()
	r := c.propose(leader, "mh")
	read, err := c.nodes[leader].ReadIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if read.Index < r.Index {
		t.Errorf("the read index %d is before %d, which was acknowledged", read.Index, r.Index)
	}
	for i, n := range c.nodes {
		if i == leader {
			continue
		}
		if _, err := n.Propose(t.Context(), Bulk, register("x", 1)); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a follower's Propose returned %v", err)
		}
		if _, err := n.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a follower's ReadIndex returned %v", err)
		}
		if err := n.WaitApplied(t.Context(), read.Index); err != nil {
			t.Fatal(err)
		}
		if !has(n, "mh") {
			t.Error("a follower that has applied the read index does not have what was acknowledged")
		}
	}
}

// A leader without a quorum must not confirm, however long it still takes itself for the leader.
func TestALeaderWithoutQuorumDoesNotConfirm(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	leader := c.leader()
	for i := range c.nodes {
		if i != leader {
			c.stop(i)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.nodes[leader].ReadIndex(ctx); !errors.Is(err, ErrNotLeader) {
		t.Errorf("got %v, want ErrNotLeader", err)
	}
	if _, err := c.nodes[leader].Propose(ctx, Urgent, register("lost", 1)); !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrInDoubt) {
		t.Errorf("a write without quorum returned %v", err)
	}
}

// What was proposed in a term is decided once an entry of a later one is applied.
func TestWaitDecided(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	leader := c.leader()
	term := c.nodes[leader].Leading().Term
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.nodes[leader].WaitDecided(short, term); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the present term is decided already: %v", err)
	}
	if err := c.nodes[leader].HandOver(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.nodes[leader].WaitDecided(ctx, term); err != nil {
		t.Fatal(err)
	}
	if now := c.nodes[c.leader()].Leading().Term; now <= term {
		t.Fatalf("the term went from %d to %d", term, now)
	}
}

// Commands that wait share an entry, and each has its own answer.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 1, LogStoreBolt)
	leader := c.leader()
	const callers = 500
	results := make([]fsm.Result, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() { results[i] = c.propose(leader, fmt.Sprintf("mh-%d", i)) })
	}
	wg.Wait()
	entries := make(map[uint64]bool)
	for i, r := range results {
		entries[r.Index] = true
		if want := fmt.Sprintf("mh-%d", i); r.Node == nil || r.Node.ID != want {
			t.Fatalf("the answer to %s is %+v", want, r.Node)
		}
	}
	if len(entries) > callers/2 {
		t.Errorf("%d commands made %d entries: they do not share", callers, len(entries))
	}
}

// A new kind of command waits until every replica has announced that it understands it.
func TestClusterVersionIsThatOfTheOldestReplica(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	leader := c.nodes[c.leader()]
	if v := leader.clusterVersion(); v != 1 {
		t.Fatalf("replicas that have not announced themselves count as version %d, want 1", v)
	}
	if !leader.Announced() {
		t.Error("a leader announces itself with its first entry")
	}
	var address string
	leader.Machine().View(func(s *fsm.State) { address = s.Member(leader.ID()).GRPCAddress })
	if address != leader.ID()+".example:50051" {
		t.Errorf("the leader's gRPC address is %q in the state", address)
	}
}

// Raft hangs with the disk of its leader, and with it would every call that is let in.
func TestALeaderWhoseDiskHangsTakesNothing(t *testing.T) {
	c := newTestCluster(t, 1, LogStoreWAL)
	n := c.nodes[c.leader()]
	n.stores.log.writingSince.Store(monotonic() - int64(2*maxDiskStall))
	if _, err := n.Propose(t.Context(), Urgent, register("hangs", 1)); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a proposal: %v, want ErrNotLeader", err)
	}
	if _, err := n.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
		t.Errorf("a read: %v, want ErrNotLeader", err)
	}
	n.stores.log.writingSince.Store(0)
	c.propose(0, "goes-on")
}
