package assign

import (
	"context"
	"errors"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

func TestEnd(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	first := r.mustJoin("m").Assignment
	end := func(token uint64) (fsm.Result, error) {
		return r.assigner.End(t.Context(), meeting("m"), token, "over", 0)
	}
	if _, err := end(first.Token + 1); !errors.Is(err, ErrFenced) {
		t.Errorf("a token that it never had: %v, want ErrFenced", err)
	}
	if r.log.live(meeting("m")) == nil {
		t.Fatal("the wrong token ended it")
	}
	result, err := end(first.Token)
	if err != nil || result.Assignment.EndReason != "over" || result.Assignment.EndedAtMs == 0 {
		t.Fatalf("%+v, %v", result.Assignment, err)
	}
	if result, err = end(first.Token); err != nil || result.Assignment.Token != first.Token {
		t.Errorf("the same end again: %+v, %v", result.Assignment, err)
	}
	if _, err := end(0); !errors.Is(err, ErrNoAssignment) {
		t.Errorf("whichever is live, and none is: %v, want ErrNoAssignment", err)
	}
	if _, err := r.assigner.End(t.Context(), meeting("never"), 0, "", 0); !errors.Is(err, ErrNoAssignment) {
		t.Errorf("a meeting that never was: %v, want ErrNoAssignment", err)
	}

	// A meeting that ended can be joined again, and its old token ends nothing.
	second := r.mustJoin("m")
	if !second.Created || second.Assignment.Token <= first.Token {
		t.Errorf("after its end, the join was told %+v", second)
	}
	if _, err := end(first.Token); !errors.Is(err, ErrFenced) {
		t.Errorf("the token of the meeting before: %v, want ErrFenced", err)
	}
	if _, err := end(0); err != nil || r.log.live(meeting("m")) != nil {
		t.Errorf("whichever is live: %v", err)
	}
}

func TestReleaseEndedTellsTheController(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	r.mustJoin("m")
	result, err := r.assigner.End(t.Context(), meeting("m"), 0, "over", 0)
	if err != nil {
		t.Fatal(err)
	}
	r.assigner.ReleaseEnded(result.Assignment)
	eventually(t, "the release", func() bool { return mc.Count(sim.EventRelease, sim.OutcomeReleased) == 1 })
	if got := r.events(sim.EventRelease)[0]; got.Detail != "over" || got.Token != result.Assignment.Token {
		t.Errorf("released as %+v", got)
	}
}

// The controller learns the token before it is committed, so its end may arrive first.
func TestEndWaitsWhileTheMeetingIsPlaced(t *testing.T) {
	for name, which := range map[string]func(token uint64) uint64{
		"by token":          func(token uint64) uint64 { return token },
		"whichever is live": func(uint64) uint64 { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			gate, called := make(chan struct{}), make(chan uint64, 1)
			r.controllers(1, func(req *darktowerv1.AssignMeetingWithMhRequest) sim.Step {
				called <- req.FencingToken
				<-gate
				return sim.Accept()
			})
			joined, ended := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := r.join("m")
				joined <- err
			}()
			token := <-called
			// Others do not wait: this token is not the one that is being placed.
			if _, err := r.assigner.End(t.Context(), meeting("m"), token+1, "", 0); !errors.Is(err, ErrNoAssignment) {
				t.Errorf("another token: %v, want ErrNoAssignment", err)
			}
			// One who gives up waits no longer.
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := r.assigner.End(ctx, meeting("m"), which(token), "", 0); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v", err)
			}
			go func() {
				_, err := r.assigner.End(t.Context(), meeting("m"), which(token), "over", 0)
				ended <- err
			}()
			close(gate)
			if err := <-joined; err != nil {
				t.Errorf("join: %v", err)
			}
			if err := <-ended; err != nil {
				t.Errorf("end: %v", err)
			}
			if live := r.log.live(meeting("m")); live != nil {
				t.Errorf("%+v is live after its end", live)
			}
		})
	}
}

func TestWhoWaitsForAPlacementIsSentToTheNextLeader(t *testing.T) {
	r := newRig(t, patient)
	called := make(chan struct{})
	r.controllers(1, func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		close(called)
		return sim.Hang()
	})
	joined, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := r.join("m")
		joined <- err
	}()
	<-called
	d := r.assigner.desk.Load()
	go func() { ended <- d.waitWhilePlacing(context.Background(), meeting("m"), 0) }()
	r.depose()
	for what, answer := range map[string]chan error{"join": joined, "end": ended} {
		// The placement may have ended first; then the end has nothing to wait for.
		err := <-answer
		if !errors.Is(err, raftnode.ErrNotLeader) && !errors.Is(err, raftnode.ErrInDoubt) && (what == "join" || err != nil) {
			t.Errorf("%s: %v, want one that has the caller look for the leader", what, err)
		}
	}
}
