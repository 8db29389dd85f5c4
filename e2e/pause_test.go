package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/localcluster"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// leaderLease is the default of --raft-leader-lease.
var leaderLease = raftnode.DefaultTiming.LeaderLease

// A leader that is stopped for a while (SIGSTOP, a virtual machine that migrates) is replaced, and
// when it goes on it neither answers from its past nor commits what it had begun.
func TestPausedLeader(t *testing.T) {
	c := startCluster(t, append(quickNodes, "--mc-timeout", "20s")...)
	fleet := c.startFleet(t, 6, 3)
	for _, leases := range []float64{0.5, 1, 3, 10} {
		t.Run(fmt.Sprintf("%v leases", leases), func(t *testing.T) {
			p := newPause(t, c, fleet, time.Duration(leases*float64(leaderLease)))
			// A leader that was stopped for less need not be replaced.
			p.run(t, leases >= 3)
		})
	}
}

// pause is one leader that is stopped while it places meetings.
type pause struct {
	c        *cluster
	fleet    *sim.Fleet
	leader   *localcluster.Replica
	others   *sim.Cluster
	term     uint64 // in which the leader leads
	duration time.Duration
	prefix   string
	ledger   *sim.Ledger

	gate    chan struct{} // closed to let the meeting controllers answer the leader
	asked   chan string   // meetings that the leader has asked a controller to take
	answers sync.WaitGroup
}

const heldMeetings = 6

func newPause(t *testing.T, c *cluster, fleet *sim.Fleet, duration time.Duration) *pause {
	t.Helper()
	leader := c.leader(t)
	status, err := leader.Status(patience(t, runPatience))
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, r := range c.except(leader) {
		addresses = append(addresses, r.GRPCAddr)
	}
	p := &pause{
		c: c, fleet: fleet, leader: leader, duration: duration, term: status.Term,
		others: dial(t, strings.Join(addresses, ",")),
		prefix: fmt.Sprintf("paused-%v-", duration.Milliseconds()),
		ledger: sim.NewLedger(),
		gate:   make(chan struct{}), asked: make(chan string, 100),
	}
	for _, mc := range fleet.MeetingControllers() {
		mc.SetScript(p.holdLeader)
	}
	t.Cleanup(func() {
		for _, mc := range fleet.MeetingControllers() {
			mc.SetScript(nil)
		}
		_ = leader.Signal(syscall.SIGCONT) // so that a test that failed can end it
	})
	return p
}

// holdLeader keeps the answers to the leader back until the gate opens; then it accepts.
func (p *pause) holdLeader(req *darktowerv1.AssignMeetingWithMhRequest) sim.Step {
	if req.RequestingGcId == p.leader.ID && tokenTerm(req.FencingToken) == p.term && strings.Contains(req.MeetingId, "held") {
		p.asked <- req.MeetingId
		<-p.gate
	}
	return sim.Accept()
}

// tokenTerm is the Raft term in which a fencing token was drawn: its high bits.
func tokenTerm(token uint64) uint64 { return token >> 40 }

func (p *pause) run(t *testing.T, replaced bool) {
	moved := p.prefix + "moved"
	old := join(t, p.leader, moved)
	p.ledger.Joined(joined(old, time.Now()))
	held := p.holdJoins(t)

	if err := p.leader.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.After(p.duration)
	reads := startReads(t, p.leader, moved)
	var anew *conclavev1.Assignment
	var movedAt time.Time
	if replaced {
		anew, movedAt = p.move(t, old), time.Now()
		if anew.AssignedByGcId == p.leader.ID {
			t.Errorf("%s placed a meeting while it was stopped", p.leader.ID)
		}
		// Half of the meetings that hang at the old leader are joined at the new one.
		for _, meeting := range held[:heldMeetings/2] {
			p.join(t, meeting)
		}
	}
	<-stopped // the length of the pause is what the test is about
	close(p.gate)
	if err := p.leader.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if !replaced {
		anew, movedAt = p.move(t, old), time.Now()
	}
	p.c.awaitReady(t, p.leader)
	p.answers.Wait()
	reads.collect(t, 100)
	reads.judge(t, anew, movedAt)
	p.judge(t, held, replaced)
}

// holdJoins lets the leader begin to place meetings whose controllers do not answer yet.
func (p *pause) holdJoins(t *testing.T) (held []string) {
	t.Helper()
	client := assignments(t, p.leader)
	ctx := patience(t, 2*settlePatience)
	for i := range heldMeetings {
		meeting := fmt.Sprintf("%sheld-%d", p.prefix, i)
		held = append(held, meeting)
		p.answers.Go(func() {
			began := time.Now()
			answer, err := client.AssignMeeting(ctx, &conclavev1.AssignMeetingRequest{MeetingId: meeting})
			switch {
			case err == nil:
				p.ledger.Joined(joined(answer.Assignment, began))
			case status.Code(err) != codes.Unavailable:
				t.Errorf("join %s at the stopped leader: %v", meeting, err)
			}
		})
	}
	deadline := time.After(settlePatience)
	for range held {
		select {
		case <-p.asked:
		case <-deadline:
			t.Fatal("the leader does not ask the meeting controllers")
		}
	}
	return held
}

// move ends a meeting and has it placed anew, through the replicas that are not stopped.
func (p *pause) move(t *testing.T, old *conclavev1.Assignment) *conclavev1.Assignment {
	t.Helper()
	err := p.others.Call(patience(t, settlePatience), func(ctx context.Context, conn clientConn) error {
		_, err := conclavev1.NewAssignmentServiceClient(conn).EndMeeting(ctx, &conclavev1.EndMeetingRequest{
			MeetingId: old.MeetingId, Region: old.Region, FencingToken: old.FencingToken,
		})
		return err
	})
	// An attempt that was not answered may have ended it.
	if err != nil && status.Code(err) != codes.NotFound {
		t.Fatalf("end %s while the leader is stopped: %v", old.MeetingId, err)
	}
	p.ledger.Ended(sim.Key{Meeting: old.MeetingId, Region: old.Region}, old.FencingToken, time.Now())
	return p.join(t, old.MeetingId)
}

// join joins a meeting through the replicas that are not stopped.
func (p *pause) join(t *testing.T, meeting string) *conclavev1.Assignment {
	t.Helper()
	var answer *conclavev1.AssignMeetingResponse
	var began time.Time
	err := p.others.Call(patience(t, settlePatience), func(ctx context.Context, conn clientConn) (err error) {
		began = time.Now()
		answer, err = conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(ctx, &conclavev1.AssignMeetingRequest{MeetingId: meeting})
		return err
	})
	if err != nil {
		t.Fatalf("join %s while the leader is stopped: %v", meeting, err)
	}
	p.ledger.Joined(joined(answer.Assignment, began))
	return answer.Assignment
}

// joined is an answer as the ledger wants it.
func joined(a *conclavev1.Assignment, began time.Time) sim.Join {
	j := sim.Join{
		Key:   sim.Key{Meeting: a.MeetingId, Region: a.Region},
		Token: a.FencingToken, MC: a.McId, Started: began, Acked: time.Now(),
	}
	for _, mh := range a.MhAssignments {
		j.MHs = append(j.MHs, mh.MhId)
	}
	return j
}

// judge looks at what has become of the meetings that the stopped leader was placing.
func (p *pause) judge(t *testing.T, held []string, replaced bool) {
	t.Helper()
	ctx := patience(t, settlePatience)
	err := p.c.all.EachAssignment(ctx, conclavev1.Consistency_LINEARIZABLE, true, func(a *conclavev1.Assignment) {
		for _, meeting := range held {
			if a.MeetingId == meeting && replaced && tokenTerm(a.FencingToken) == p.term {
				t.Errorf("%s was committed under term %d, whose leader had been replaced", meeting, p.term)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// No zombies: what the meeting controllers accepted too late is released.
	verdict, err := p.ledger.Verdict(ctx, p.c.all, p.fleet, settlePatience)
	if err != nil {
		t.Fatal(err)
	}
	if !verdict.OK() {
		t.Error(verdict)
	}
	p.c.converge(t)
}
