package assign

import (
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

func (r *rig) ended(key fsm.MeetingKey) (a *fsm.Assignment) {
	r.log.machine.View(func(s *fsm.State) { a = s.LastEnded(key) })
	return a
}

func TestAMeetingOnAnUnhealthyControllerIsAssignedAnew(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(2, nil)
	first := r.mustJoin("m")
	r.log.report(fsm.MeetingController, first.Assignment.MCID, fsm.Unhealthy, 1)
	second := r.mustJoin("m")
	if !second.Created || second.Assignment.MCID == first.Assignment.MCID || second.Assignment.Token <= first.Assignment.Token {
		t.Errorf("after %+v came %+v", first.Assignment, second.Assignment)
	}
	r.expectOneTuple("m", second) // the first is released
	if old := r.ended(meeting("m")); old == nil || old.Token != first.Assignment.Token || old.EndReason != reasonControllerUnhealthy {
		t.Errorf("the assignment that was replaced is kept as %+v", old)
	}
	r.expectNothingLeft()
}

// A controller that comes back while its meeting is placed elsewhere keeps it.
func TestAControllerThatComesBackMeanwhileKeepsItsMeeting(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(2, nil)
	first := r.mustJoin("m")
	r.log.report(fsm.MeetingController, first.Assignment.MCID, fsm.Unhealthy, 1)
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		r.log.hook(nil)
		r.log.report(fsm.MeetingController, first.Assignment.MCID, fsm.Healthy, 1)
		return apply(), nil
	})
	second := r.mustJoin("m")
	if second.Created || second.Assignment.Token != first.Assignment.Token {
		t.Errorf("moved to %+v, and its controller is back", second.Assignment)
	}
	r.expectOneTuple("m", first) // the other is released
	r.expectNothingLeft()
}

func TestARestartedControllerIsAskedAgain(t *testing.T) {
	for name, forget := range map[string]bool{"that remembers": false, "that forgot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			r.controllers(3, nil)
			first := r.mustJoin("m")
			mc := r.mcs[first.Assignment.MCID]
			if err := mc.Restart(forget); err != nil {
				t.Fatal(err)
			}
			r.enrol(mc)
			r.eventuallyReachable(first.Assignment)

			second := r.mustJoin("m")
			if second.Created || second.Assignment.Token != first.Assignment.Token || second.Assignment.MCID != first.Assignment.MCID ||
				!slices.Equal(second.Assignment.MediaHandlers, first.Assignment.MediaHandlers) {
				t.Errorf("%+v became %+v", first.Assignment, second.Assignment)
			}
			if got, want := r.log.live(meeting("m")).MCIncarnation, r.log.node(fsm.MeetingController, mc.ID()).Incarnation; got != want {
				t.Errorf("accepted as incarnation %d, want the new one, %d", got, want)
			}
			r.expectOneTuple("m", second)
			if n := len(r.log.proposals(isReconfirm)); n != 1 {
				t.Errorf("%d reconfirmations, want 1", n)
			}
			before := len(r.events(sim.EventAssign))
			r.mustJoin("m") // now it stands again, and nobody is asked
			if n := len(r.events(sim.EventAssign)); n != before {
				t.Errorf("%d more notifications", n-before)
			}
		})
	}
}

// eventuallyReachable waits until calls to a controller that was down get through again, by
// releasing a token that nothing has.
func (r *rig) eventuallyReachable(a *fsm.Assignment) {
	r.t.Helper()
	eventually(r.t, a.MCID+" can be reached", func() bool {
		to := callee{id: a.MCID, endpoint: a.MCGRPCEndpoint}
		return r.assigner.controllers.release(r.t.Context(), to, &darktowerv1.ReleaseMeetingRequest{
			MeetingId: "nothing", Region: a.Region, FencingToken: 1,
		}) == nil
	})
}

func TestARestartedControllerThatWillNotIsReplaced(t *testing.T) {
	for name, step := range map[string]sim.Step{"rejects": sim.Reject(draining), "fails": sim.Fail(codes.Internal)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			r.controllers(3, nil)
			first := r.mustJoin("m")
			mc := r.mcs[first.Assignment.MCID]
			mc.SetScript(sim.Always(step))
			r.enrol(mc) // registered again, with the same process behind it
			asked := mc.Count(sim.EventAssign, "")

			second := r.mustJoin("m")
			if !second.Created || second.Assignment.Token <= first.Assignment.Token || second.Assignment.MCID == first.Assignment.MCID {
				t.Errorf("after %+v came %+v", first.Assignment, second.Assignment)
			}
			if old := r.ended(meeting("m")); old == nil || old.EndReason != reasonControllerRestarted {
				t.Errorf("the assignment that was replaced is kept as %+v", old)
			}
			var again event
			for _, e := range r.events(sim.EventAssign) {
				if e.mc == mc.ID() && e.Token == first.Assignment.Token {
					again = e // the last with that token
				}
			}
			var told []string
			for _, mh := range first.Assignment.MediaHandlers {
				told = append(told, mh.ID)
			}
			if !slices.Equal(again.MHs, told) {
				t.Errorf("asked again with media handlers %v, want the same, %v", again.MHs, told)
			}
			if n := mc.Count(sim.EventAssign, "") - asked; n > 2 {
				t.Errorf("it was asked %d times by one join", n)
			}
			r.expectOneTuple("m", second)
			r.expectNothingLeft()
		})
	}
}

func TestAControllerThatDidNotAnswerWhenAskedAgainIsNotTriedByTheSameJoin(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	r.mustJoin("m")
	mc.SetScript(sim.Always(sim.Fail(codes.Internal)))
	r.enrol(mc)
	if _, err := r.join("m"); err == nil {
		t.Fatal("joined")
	}
	if n := mc.Count(sim.EventAssign, sim.OutcomeFailed); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// It restarts again between its word and the commit: the word was another process's.
func TestAControllerThatRestartsWhileItIsAskedAgain(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	first := r.mustJoin("m")
	r.enrol(mc)
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		r.log.hook(nil)
		r.enrol(mc)
		return apply(), nil
	})
	asked := r.mustJoin("m")
	r.log.hook(nil)
	r.mustJoin("m")
	live, node := r.log.live(meeting("m")), r.log.node(fsm.MeetingController, "mc")
	if live.MCIncarnation != node.Incarnation || live.Token != first.Assignment.Token || asked.Assignment.Token != live.Token {
		t.Errorf("stands as %+v for incarnation %d", live, node.Incarnation)
	}
}

func TestAMeetingThatEndsWhileItsControllerIsAskedAgain(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	first := r.mustJoin("m")
	r.enrol(mc)
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		r.log.hook(nil)
		r.log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: "m", Region: "eu"}}})
		return apply(), nil
	})
	second := r.mustJoin("m")
	if !second.Created || second.Assignment.Token <= first.Assignment.Token {
		t.Errorf("an ended meeting was joined: %+v", second.Assignment)
	}
	r.expectOneTuple("m", second)
}

func TestAReconfirmationThatFailsLeavesTheMeetingAsItIs(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(2, nil)
	first := r.mustJoin("m")
	r.enrol(r.mcs[first.Assignment.MCID])
	r.log.hook(func(*commandv1.Command, func() fsm.Result) (fsm.Result, error) {
		return fsm.Result{}, raftnode.ErrInDoubt
	})
	if _, err := r.join("m"); !errors.Is(err, raftnode.ErrInDoubt) {
		t.Errorf("error %v, want ErrInDoubt", err)
	}
	r.log.hook(nil)
	if n := len(r.events(sim.EventRelease)); n != 0 {
		t.Errorf("%d releases of a meeting that stands", n)
	}
	r.expectOneTuple("m", first)
	if again := r.mustJoin("m"); again.Created || again.Assignment.Token != first.Assignment.Token {
		t.Errorf("%+v became %+v", first.Assignment, again.Assignment)
	}
}

// A substitute that refuses gives the unhealthy controller time to come back. It must not be asked
// to take its own meeting under a new token: that commit would be refused, and the release that
// follows would take from it what it rightly hosts.
func TestAControllerThatComesBackBetweenAttemptsIsNotGivenItsMeetingAgain(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(2, nil)
	first := r.mustJoin("m")
	old := r.mcs[first.Assignment.MCID]
	r.log.report(fsm.MeetingController, old.ID(), fsm.Unhealthy, 1)
	for id, mc := range r.mcs {
		if id != old.ID() {
			mc.SetScript(func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
				r.log.report(fsm.MeetingController, old.ID(), fsm.Healthy, 0)
				return sim.Reject(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY)
			})
		}
	}
	asked := old.Count(sim.EventAssign, "")
	second := r.mustJoin("m")
	if second.Created || second.Assignment.Token != first.Assignment.Token {
		t.Errorf("%+v became %+v", first.Assignment, second.Assignment)
	}
	if got := old.Count(sim.EventAssign, ""); got != asked {
		t.Errorf("the controller that came back was asked %d times more", got-asked)
	}
	r.expectOneTuple("m", first)
}
