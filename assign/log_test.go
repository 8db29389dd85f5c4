package assign

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// fakeLog is the log of a cluster with one replica: it applies what is proposed at once, to a
// real state machine. A test can put itself between the proposal and its end.
type fakeLog struct {
	machine *fsm.Machine

	mu       sync.Mutex
	index    uint64
	term     uint64
	stampMs  func() int64
	proposed []*commandv1.Command
	applied  chan struct{} // closed and replaced with every entry
	// onPropose stands in for the log; apply commits the command.
	onPropose func(cmd *commandv1.Command, apply func() fsm.Result) (fsm.Result, error)
	// onReadIndex fails or delays reads.
	onReadIndex func() error
	reads       int
	oldest      uint32 // what every member understands
}

func newFakeLog(observer fsm.Observer) *fakeLog {
	return &fakeLog{
		machine: fsm.NewMachine(observer),
		term:    1,
		stampMs: func() int64 { return time.Now().UnixMilli() },
		applied: make(chan struct{}),
		oldest:  fsm.CommandVersion,
	}
}

func (l *fakeLog) ID() string            { return "gc-1" }
func (l *fakeLog) Machine() *fsm.Machine { return l.machine }

func (l *fakeLog) Propose(_ context.Context, _ raftnode.Lane, cmd *commandv1.Command) (fsm.Result, error) {
	l.mu.Lock()
	l.proposed = append(l.proposed, cmd)
	on := l.onPropose
	l.mu.Unlock()
	apply := func() fsm.Result { return l.commit(cmd)[0] }
	if on == nil {
		return apply(), nil
	}
	return on(cmd, apply)
}

func (l *fakeLog) ReadIndex(context.Context) (raftnode.ReadIndex, error) {
	l.mu.Lock()
	l.reads++
	on, term := l.onReadIndex, l.term
	l.mu.Unlock()
	if on != nil {
		if err := on(); err != nil {
			return raftnode.ReadIndex{}, err
		}
	}
	return raftnode.ReadIndex{Index: l.machine.Index(), Term: term}, nil
}

func (l *fakeLog) WaitApplied(ctx context.Context, index uint64) error {
	return l.wait(ctx, func(s *fsm.State) bool { return s.Index() >= index })
}

// Understands says so of versions up to the oldest of the cluster's members.
func (l *fakeLog) Understands(version uint32) bool { return version <= l.oldest }

func (l *fakeLog) WaitDecided(ctx context.Context, term uint64) error {
	return l.wait(ctx, func(s *fsm.State) bool { return s.Term() > term })
}

func (l *fakeLog) wait(ctx context.Context, until func(*fsm.State) bool) error {
	for {
		l.mu.Lock()
		applied := l.applied
		l.mu.Unlock()
		var reached bool
		l.machine.View(func(s *fsm.State) { reached = until(s) })
		if reached {
			return nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// commit commits commands as one entry of the present term.
func (l *fakeLog) commit(cmds ...*commandv1.Command) []fsm.Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	data, err := fsm.EncodeEntry(&commandv1.Entry{StampUnixMs: l.stampMs(), Commands: cmds})
	if err != nil {
		panic(err)
	}
	l.index++
	results, err := l.machine.Apply([]fsm.Entry{{Index: l.index, Term: l.term, Data: data}})
	if err != nil {
		panic(err)
	}
	close(l.applied)
	l.applied = make(chan struct{})
	return results[0]
}

// elect begins the next term.
func (l *fakeLog) elect() (term uint64) {
	l.mu.Lock()
	l.term++
	term = l.term
	l.mu.Unlock()
	l.commit(&commandv1.Command{Op: &commandv1.Command_Lead{Lead: &commandv1.Lead{NodeId: "gc-1", Term: term}}})
	return term
}

// hook puts a function between proposals and their commit; nil takes it away.
func (l *fakeLog) hook(on func(cmd *commandv1.Command, apply func() fsm.Result) (fsm.Result, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onPropose = on
}

// proposals are the commands proposed so far that keep says yes to.
func (l *fakeLog) proposals(keep func(*commandv1.Command) bool) []*commandv1.Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*commandv1.Command
	for _, cmd := range l.proposed {
		if keep(cmd) {
			out = append(out, cmd)
		}
	}
	return out
}

func isAssign(cmd *commandv1.Command) bool    { return cmd.GetAssign() != nil }
func isReconfirm(cmd *commandv1.Command) bool { return cmd.GetReconfirm() != nil }
func isMarkStale(cmd *commandv1.Command) bool { return cmd.GetMarkStale() != nil }

// registration is a node as a test wants it.
type registration struct {
	kind             fsm.Kind
	id, region, zone string
	endpoint         string
	capacity         uint32
}

// register commits a registration, each as of a process that has just started.
func (l *fakeLog) register(r registration) *fsm.Node {
	if r.region == "" {
		r.region = "eu"
	}
	if r.capacity == 0 {
		r.capacity = 1000
	}
	l.mu.Lock()
	next := l.index + 1
	l.mu.Unlock()
	return l.commit(&commandv1.Command{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
		Kind: r.kind, Id: r.id, Region: r.region, Zone: r.zone, Capacity: r.capacity,
		GrpcEndpoint: r.endpoint, WebtransportEndpoint: "https://" + r.id + ".example",
		RegistrationId: next,
	}}})[0].Node
}

// report commits a node's word for its health and its load.
func (l *fakeLog) report(kind fsm.Kind, id string, health fsm.Health, used uint32) *fsm.Node {
	return l.commit(&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
		Kind: kind, Id: id, Health: health, Usage: &commandv1.Usage{Used: used},
	}}})[0].Node
}

// ready registers a node and lets it report that it is healthy and idle.
func (l *fakeLog) ready(r registration) *fsm.Node {
	l.register(r)
	return l.report(r.kind, r.id, fsm.Healthy, 0)
}

func (l *fakeLog) node(kind fsm.Kind, id string) (n *fsm.Node) {
	l.machine.View(func(s *fsm.State) { n = s.Node(kind, id) })
	return n
}

func (l *fakeLog) live(key fsm.MeetingKey) (a *fsm.Assignment) {
	l.machine.View(func(s *fsm.State) { a = s.LiveAssignment(key) })
	return a
}

func meeting(id string) fsm.MeetingKey { return fsm.MeetingKey{Region: "eu", MeetingID: id} }

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

func nodeID(prefix string, i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }
