package assign

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// expectAttempts fails unless so many different controllers were asked, each with a token above
// the one before.
func (r *rig) expectAttempts(want int) {
	r.t.Helper()
	calls := r.events(sim.EventAssign)
	if len(calls) != want {
		r.t.Errorf("%d notifications, want %d", len(calls), want)
	}
	asked := make(map[string]bool)
	for i, call := range calls {
		if asked[call.mc] {
			r.t.Errorf("%s was asked twice", call.mc)
		}
		asked[call.mc] = true
		if i > 0 && (call.Token <= calls[i-1].Token || call.At.Before(calls[i-1].At)) {
			r.t.Errorf("token %d at %v after token %d at %v", call.Token, call.At, calls[i-1].Token, calls[i-1].At)
		}
	}
}

func TestRefusalsAreFollowedByOtherControllers(t *testing.T) {
	fail, reject := sim.Fail(codes.Internal), sim.Reject(atCapacity)
	for _, c := range []struct {
		name  string
		steps []sim.Step
		fails int
	}{
		{"rejected once", []sim.Step{reject, sim.Accept()}, 0},
		{"failed once", []sim.Step{fail, sim.Accept()}, 1},
		{"rejected twice", []sim.Step{reject, reject, sim.Accept()}, 0},
		{"failed, then rejected", []sim.Step{fail, reject, sim.Accept()}, 1},
		{"rejected, then failed", []sim.Step{reject, fail, sim.Accept()}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			r.controllers(5, sim.Cycle(c.steps...))
			p := r.mustJoin("m")
			if !p.Created {
				t.Error("it is not said to be new")
			}
			r.expectAttempts(len(c.steps))
			r.expectOneTuple("m", p)
			r.expectNothingLeft()
			// Who gave no answer may have accepted, and is told to drop it; who refused is not.
			eventually(t, "releases", func() bool { return len(r.events(sim.EventRelease)) == c.fails })
		})
	}
}

func TestWhenAllRefuse(t *testing.T) {
	fail := sim.Fail(codes.Unavailable)
	for _, c := range []struct {
		name        string
		controllers int
		steps       []sim.Step
		attempts    int
		reason      darktowerv1.RejectionReason // of the error; unspecified: unreachable
	}{
		{"all reject: the last reason", 5, []sim.Step{sim.Reject(atCapacity), sim.Reject(unhealthy), sim.Reject(draining)}, 3, draining},
		{"all fail", 5, []sim.Step{fail}, 3, 0},
		{"an answer says more than a silence after it", 5, []sim.Step{sim.Reject(draining), fail, fail}, 3, draining},
		{"an answer says more than a silence before it", 5, []sim.Step{fail, fail, sim.Reject(unhealthy)}, 3, unhealthy},
		{"fewer controllers than attempts", 2, []sim.Step{sim.Reject(draining), sim.Reject(atCapacity)}, 2, atCapacity},
		{"one that fails", 1, []sim.Step{fail}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			r.controllers(c.controllers, sim.Cycle(c.steps...))
			_, err := r.join("m")
			var rejected *RejectedError
			switch {
			case c.reason == 0 && !errors.Is(err, ErrUnreachable):
				t.Errorf("error %v, want ErrUnreachable", err)
			case c.reason != 0 && (!errors.As(err, &rejected) || rejected.Reason != c.reason):
				t.Errorf("error %v, want a rejection for %v", err, c.reason)
			}
			r.expectAttempts(c.attempts)
			r.expectNothingLeft()
			if n := len(r.log.proposals(isAssign)); n != 0 {
				t.Errorf("%d proposals, and nobody accepted", n)
			}
		})
	}
}

func TestNobodyToAsk(t *testing.T) {
	r := newRig(t, patient)
	if _, err := r.join("m"); !errors.Is(err, ErrNoControllers) {
		t.Errorf("without controllers: %v", err)
	}
	r.controller("mc", nil)
	r.log.report(fsm.MeetingController, "mc", fsm.Draining, 0)
	if _, err := r.join("m"); !errors.Is(err, ErrNoControllers) {
		t.Errorf("with a draining controller alone: %v", err)
	}
	r.log.report(fsm.MeetingController, "mc", fsm.Healthy, 0)
	for i := range 4 {
		r.log.report(fsm.MediaHandler, nodeID("mh", i), fsm.Draining, 0)
	}
	if _, err := r.join("m"); !errors.Is(err, ErrNoMediaHandlers) {
		t.Errorf("without media handlers: %v", err)
	}
	r.expectNothingLeft()
	r.expectAttempts(0)
}

func TestWhoRefusedIsNotAskedUntilItsNextHeartbeat(t *testing.T) {
	for name, step := range map[string]sim.Step{"rejected": sim.Reject(atCapacity), "failed": sim.Fail(codes.Internal)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			mc := r.controller("mc", sim.Cycle(step, sim.Accept()))
			if _, err := r.join("m"); err == nil {
				t.Fatal("joined")
			}
			for range 3 {
				if _, err := r.join("m"); !errors.Is(err, ErrNoControllers) {
					t.Errorf("set aside: %v, want ErrNoControllers", err)
				}
			}
			if n := mc.Count(sim.EventAssign, ""); n != 1 {
				t.Errorf("asked %d times before its heartbeat, want once", n)
			}
			r.log.report(fsm.MeetingController, "mc", fsm.Healthy, 0)
			r.expectOneTuple("m", r.mustJoin("m"))
		})
	}
}

// Many joins must not each find out for themselves that a controller is dead.
func TestADeadControllerIsNotAskedWithoutEnd(t *testing.T) {
	r := newRig(t, patient)
	dead := r.controller("dead", sim.Always(sim.Fail(codes.Unavailable)))
	r.controller("well", nil)
	for i := range 100 {
		r.mustJoin(nodeID("m", i))
	}
	if n := dead.Count(sim.EventAssign, ""); n != 1 {
		t.Errorf("the dead controller was asked %d times in one heartbeat's time, want once", n)
	}
}
