package assign

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

func TestTheFirstJoinAssigns(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(3, nil)
	p := r.mustJoin("m")
	if !p.Created || p.Index != r.log.machine.Index() {
		t.Errorf("created %t at index %d, want true at %d", p.Created, p.Index, r.log.machine.Index())
	}
	a := p.Assignment
	if len(a.MediaHandlers) != 2 || a.AssignedBy != "gc-1" || fsm.TokenTerm(a.Token) != 2 ||
		a.MCGRPCEndpoint != r.mcs[a.MCID].Endpoint() || a.MCWebTransportEndpoint != "https://"+a.MCID+".example" {
		t.Errorf("assignment %+v", a)
	}
	r.expectOneTuple("m", p)
	r.expectNothingLeft()
	if n := len(r.events(sim.EventAssign)); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

func TestTheControllerIsToldRankedHandlers(t *testing.T) {
	r := newRig(t, patient)
	var told *darktowerv1.AssignMeetingWithMhRequest
	r.controllers(1, func(req *darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		told = req
		return sim.Accept()
	})
	a := r.mustJoin("m").Assignment
	if told.MeetingId != "m" || told.Region != "eu" || told.FencingToken != a.Token || told.RequestingGcId != "gc-1" || len(told.MhAssignments) != 2 {
		t.Fatalf("the controller was told %v of %+v", told, a)
	}
	for i, role := range []darktowerv1.MhRole{darktowerv1.MhRole_MH_ROLE_PRIMARY, darktowerv1.MhRole_MH_ROLE_BACKUP} {
		mh, want := told.MhAssignments[i], a.MediaHandlers[i]
		if mh.Role != role || mh.MhId != want.ID || mh.WebtransportEndpoint != want.WebTransportEndpoint || mh.GrpcEndpoint != want.GRPCEndpoint {
			t.Errorf("media handler %d: told %v, want %v of %+v", i, mh, role, want)
		}
	}
}

func TestNothingIsProposedBeforeAcceptance(t *testing.T) {
	r := newRig(t, patient)
	steps := sim.Cycle(sim.Reject(atCapacity), sim.Accept())
	r.controllers(3, func(req *darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		if early := r.log.proposals(isAssign); len(early) > 0 {
			t.Errorf("proposed before any controller accepted: %v", early)
		}
		return steps(req)
	})
	r.log.hook(func(cmd *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		if a := cmd.GetAssign(); a != nil {
			if token := r.hosts("m")[a.McId]; token != a.FencingToken {
				t.Errorf("%s hosts token %d when token %d is proposed", a.McId, token, a.FencingToken)
			}
		}
		return apply(), nil
	})
	r.expectOneTuple("m", r.mustJoin("m"))
	if n := len(r.log.proposals(isAssign)); n != 1 {
		t.Errorf("%d proposals, want 1", n)
	}
}

func TestManyJoinsOfOneMeetingShareOneNotification(t *testing.T) {
	const joins = 64
	r := newRig(t, patient)
	gate := make(chan struct{})
	r.controllers(3, func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		<-gate
		return sim.Accept()
	})
	var created atomic.Int32
	answers := make([]Placement, joins)
	var all sync.WaitGroup
	for i := range joins {
		all.Go(func() {
			p, err := r.join("m")
			if err != nil {
				t.Errorf("join %d: %v", i, err)
				return
			}
			if p.Created {
				created.Add(1)
			}
			answers[i] = p
			if i == 0 && p.Index == 0 {
				t.Error("the answer names no index")
			}
		})
	}
	eventually(t, "the notification is under way", func() bool {
		d := r.assigner.desk.Load()
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.flights) == 1 && len(d.placing) == 1
	})
	close(gate)
	all.Wait()
	if created.Load() != 1 {
		t.Errorf("%d joiners were told that they created it, want 1", created.Load())
	}
	if n := len(r.events(sim.EventAssign)); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
	for _, p := range answers {
		if p.Assignment == nil || p.Assignment.Token != answers[0].Assignment.Token {
			t.Fatalf("two answers: %+v and %+v", p.Assignment, answers[0].Assignment)
		}
	}
	r.expectOneTuple("m", answers[0])
	r.expectNothingLeft()
}

func TestMeetingsDoNotWaitForEachOther(t *testing.T) {
	r := newRig(t, patient)
	gate := make(chan struct{})
	r.controllers(1, func(req *darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		if req.MeetingId == "slow" {
			<-gate
		}
		return sim.Accept()
	})
	slow := make(chan error, 1)
	go func() {
		_, err := r.join("slow")
		slow <- err
	}()
	r.expectOneTuple("quick", r.mustJoin("quick")) // before slow has an answer
	close(gate)
	if err := <-slow; err != nil {
		t.Error(err)
	}
}

// A join that is sent again, its answer having been lost, has made what it finds. Nobody else has.
func TestAJoinSentAgainKnowsWhatItMade(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	var token uint64
	for _, c := range []struct {
		what    string
		request uint64
		created bool
	}{
		{"the first call", 7, true},
		{"the same call, sent again", 7, true},
		{"another call", 8, false},
		{"a call without a name", 0, false},
	} {
		p, err := r.assigner.Join(t.Context(), Joining{Key: meeting("m"), Request: c.request})
		if err != nil || p.Created != c.created || (token != 0 && p.Assignment.Token != token) {
			t.Errorf("%s: %+v, %v; want created %v", c.what, p, err, c.created)
		}
		token = p.Assignment.Token
	}
}

// While one replica does not know the names of joins, none is written.
func TestJoinsAreNotNamedToAnOlderReplica(t *testing.T) {
	r := newRig(t, patient)
	r.log.oldest = fsm.NamedJoinsSince - 1
	r.controllers(1, nil)
	for _, created := range []bool{true, false} {
		p, err := r.assigner.Join(t.Context(), Joining{Key: meeting("m"), Request: 7})
		if err != nil || p.Created != created || p.Assignment.Request != 0 {
			t.Errorf("joined %+v, %v; want created %v", p, err, created)
		}
	}
}

func TestTheSameMeetingInAnotherRegionIsAnother(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	r.mustJoin("m")
	_, err := r.assigner.Join(t.Context(), Joining{Key: fsm.MeetingKey{Region: "us", MeetingID: "m"}})
	if !errors.Is(err, ErrNoMediaHandlers) {
		t.Errorf("joined in a region without media handlers: %v", err)
	}
}

// Later joiners must get what the controller was told of, whatever the load is by then.
func TestALaterJoinGetsWhatIsStored(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(2, nil)
	first := r.mustJoin("m")
	for i := range 4 {
		r.log.report(fsm.MediaHandler, nodeID("mh", i), fsm.Healthy, 1000) // the region is full
	}
	proposals, reads := len(r.log.proposals(isAssign)), r.log.reads
	again := r.mustJoin("m")
	if again.Created || again.Assignment.Token != first.Assignment.Token ||
		!slices.Equal(again.Assignment.MediaHandlers, first.Assignment.MediaHandlers) {
		t.Errorf("the second join was told %+v, the first %+v", again, first)
	}
	if again.Index < first.Index {
		t.Errorf("index %d after %d", again.Index, first.Index)
	}
	if n := len(r.events(sim.EventAssign)); n != 1 {
		t.Errorf("%d notifications, want the first join's alone", n)
	}
	if n := len(r.log.proposals(isAssign)); n != proposals {
		t.Error("a join that changes nothing was proposed")
	}
	if r.log.reads != reads+1 {
		t.Errorf("%d reads were confirmed, want 1", r.log.reads-reads)
	}
	if _, err := r.join("another"); !errors.Is(err, ErrNoMediaHandlers) {
		t.Errorf("a new meeting in a full region: %v, want ErrNoMediaHandlers", err)
	}
}

func TestADeposedLeaderDoesNotAnswerFromItsPast(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	r.mustJoin("m")
	r.log.onReadIndex = func() error { return raftnode.ErrNotLeader }
	if p, err := r.join("m"); !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("answered %+v, %v without a confirmed read", p.Assignment, err)
	}
}

// An answer must reflect what was committed before the read was confirmed.
func TestAnAssignmentThatEndsWhileTheReadIsConfirmedIsNotAnswered(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	first := r.mustJoin("m")
	r.log.onReadIndex = func() error {
		r.log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: "m", Region: "eu"}}})
		return nil
	}
	again := r.mustJoin("m")
	if !again.Created || again.Assignment.Token <= first.Assignment.Token {
		t.Errorf("answered %+v, which ended before the read was confirmed", again.Assignment)
	}
}

func TestADrainingControllerKeepsItsMeeting(t *testing.T) {
	for _, health := range []fsm.Health{fsm.Draining, fsm.Degraded, fsm.Healthy} {
		t.Run(health.String(), func(t *testing.T) {
			r := newRig(t, patient)
			r.controllers(2, nil)
			first := r.mustJoin("m")
			r.log.report(fsm.MeetingController, first.Assignment.MCID, health, 1000)
			again := r.mustJoin("m")
			if again.Created || again.Assignment.Token != first.Assignment.Token {
				t.Errorf("the meeting was split: %+v and %+v", first.Assignment, again.Assignment)
			}
			if n := len(r.events(sim.EventAssign)); n != 1 {
				t.Errorf("%d notifications, want 1", n)
			}
		})
	}
}

func TestAJoinerThatGivesUpDoesNotEndThePlacement(t *testing.T) {
	r := newRig(t, patient)
	gate, called := make(chan struct{}), make(chan struct{})
	r.controllers(1, func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		close(called)
		<-gate
		return sim.Accept()
	})
	ctx, giveUp := context.WithTimeoutCause(t.Context(), time.Hour, nil)
	gone := make(chan error, 1)
	go func() {
		_, err := r.assigner.Join(ctx, Joining{Key: meeting("m")})
		gone <- err
	}()
	<-called
	giveUp()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the joiner that gave up: %v", err)
	}
	close(gate)
	eventually(t, "the meeting is assigned", func() bool { return r.log.live(meeting("m")) != nil })
	p := r.mustJoin("m")
	r.expectOneTuple("m", p)
	if n := len(r.events(sim.EventAssign)); n != 1 {
		t.Errorf("%d notifications, want 1", n)
	}
}

func TestWhoDoesNotLeadSaysSo(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	r.depose()
	eventually(t, "the leadership has ended", func() bool { return r.assigner.desk.Load() == nil })
	if _, err := r.join("m"); !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("join: %v", err)
	}
	if _, err := r.assigner.End(t.Context(), meeting("m"), 0, "", 0); !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("end: %v", err)
	}
	if _, err := r.assigner.Reconcile("mc-00000", nil); !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("reconcile: %v", err)
	}
	r.assigner.Heard(reportOf(fsm.MediaHandler, "mh-00000"))  // nobody listens
	r.assigner.ReleaseEnded(&fsm.Assignment{MCID: "nowhere"}) // nobody calls
	if n := len(r.events(sim.EventAssign)); n != 0 {
		t.Errorf("%d notifications by a follower", n)
	}
}
