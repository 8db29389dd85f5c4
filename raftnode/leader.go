package raftnode

import (
	"context"
	"time"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Leadership is a term in which this replica leads and is ready: everything that earlier terms
// proposed is decided, and applied here.
type Leadership struct {
	Term uint64
	// Context ends with the leadership.
	Context context.Context

	since time.Time
}

// Leading returns the leadership that this replica holds, as far as it knows; nil when it does
// not lead or is not ready. Only a commit or ReadIndex proves that nobody else leads since. It is nil
// while this replica's disk hangs, too: calls that were let in would hang with it.
func (n *Node) Leading() *Leadership {
	if n.stores.log.stalled() > maxDiskStall {
		return nil
	}
	return n.leading.Load()
}

// followLeadership runs one establishment at a time. Raft blocks until a change is read, so
// nothing here may wait while raft has more to say.
func (n *Node) followLeadership(changes <-chan bool) {
	revoke := func() {}
	for {
		select {
		case leads := <-changes:
			revoke()
			if leads {
				revoke = n.lead()
			} else {
				revoke = func() {}
			}
		case <-n.done:
			revoke()
			return
		}
	}
}

// lead begins to lead in the background; the function it returns ends it, and waits until it
// has ended.
func (n *Node) lead() (revoke func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.establish(ctx)
		if lead := n.leading.Load(); lead != nil {
			n.keepMembers(lead)
		}
		<-ctx.Done()
		n.leading.Store(nil)
		n.metrics.leader.Set(0)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// establish commits the first entry of the term. Raft commits entries of earlier terms only
// together with one of the leader's own, so once this one is applied the state is whole.
func (n *Node) establish(ctx context.Context) {
	start := time.Now()
	for ctx.Err() == nil {
		term := n.raft.CurrentTerm()
		n.machine.View(func(s *fsm.State) { n.clock.begin(s.TimeMs()) })
		err := n.proposeLead(ctx, term)
		if err == nil && n.leadsIn(term) {
			lead := Leadership{Term: term, Context: ctx, since: time.Now()}
			n.config.OnLead(n, lead)
			n.leading.Store(&lead)
			n.metrics.leader.Set(1)
			n.log.Info("leading", "term", term, "index", n.machine.Index(), "established_in", time.Since(start))
			return
		}
		if err != nil && ctx.Err() == nil {
			n.log.Warn("could not establish leadership, trying again", "term", term, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// proposeLead commits the entry that begins a term. It also tells the followers where the
// leader serves gRPC, without which they could not forward anything, their own addresses
// included.
func (n *Node) proposeLead(ctx context.Context, term uint64) error {
	data, err := fsm.EncodeEntry(&commandv1.Entry{
		StampUnixMs: n.clock.stampMs(),
		Commands: []*commandv1.Command{
			{Op: &commandv1.Command_Lead{Lead: &commandv1.Lead{NodeId: n.config.NodeID, Term: term}}},
			n.Announcement(),
		},
	})
	if err != nil {
		return err
	}
	future := n.raft.Apply(data, enqueueTimeout)
	done := make(chan error, 1)
	go func() { done <- future.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Announcement is the command that tells the cluster about this replica.
func (n *Node) Announcement() *commandv1.Command {
	return &commandv1.Command{Op: &commandv1.Command_AnnounceMember{AnnounceMember: &commandv1.AnnounceMember{
		NodeId:         n.config.NodeID,
		GrpcAddress:    n.config.GRPCAdvertise,
		CommandVersion: fsm.CommandVersion,
	}}}
}

// Announced says whether the cluster knows this replica as it is now.
func (n *Node) Announced() bool {
	want := n.Announcement().GetAnnounceMember()
	var announced bool
	n.machine.View(func(s *fsm.State) {
		m := s.Member(want.NodeId)
		announced = m != nil && m.GRPCAddress == want.GrpcAddress && m.CommandVersion == want.CommandVersion
	})
	return announced
}
