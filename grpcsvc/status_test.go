package grpcsvc

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Whatever a handler returns, the caller is given a status with the right code and reason.
func TestStatusOfWhatAHandlerReturns(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		ctx    context.Context
		err    error
		code   codes.Code
		reason string
	}{
		{t.Context(), raftnode.ErrOverloaded, codes.ResourceExhausted, ReasonOverloaded},
		{t.Context(), fmt.Errorf("joining: %w", raftnode.ErrOverloaded), codes.ResourceExhausted, ReasonOverloaded},
		{t.Context(), batch.ErrFull, codes.ResourceExhausted, ReasonOverloaded},
		{t.Context(), raftnode.ErrNotLeader, codes.Unavailable, ReasonNoLeader},
		{t.Context(), fmt.Errorf("%w (%w)", raftnode.ErrInDoubt, errors.New("shut down")), codes.Unavailable, ReasonNoLeader},
		{t.Context(), errNoLeaderYet, codes.Unavailable, ReasonNoLeader},
		{t.Context(), batch.ErrClosed, codes.Unavailable, ReasonNoLeader},
		{t.Context(), fenced("m", "eu", 7), codes.FailedPrecondition, ReasonFenced},
		{t.Context(), status.Error(codes.NotFound, "as it is"), codes.NotFound, ""},
		{ended, errors.New("what a context that ended causes"), codes.Canceled, ""},
		{t.Context(), context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		{t.Context(), context.Canceled, codes.Canceled, ""},
		{t.Context(), errors.New("disk full"), codes.Internal, ""},
	}
	for _, test := range tests {
		got := statusOf(test.ctx, test.err)
		if status.Code(got) != test.code || ReasonOf(got) != test.reason {
			t.Errorf("%v: got %v %q, want %v %q", test.err, status.Code(got), ReasonOf(got), test.code, test.reason)
		}
	}
}

func TestStatusOfAFailedPlacement(t *testing.T) {
	rejected := func(r darktowerv1.RejectionReason) error { return &assign.RejectedError{Reason: r} }
	tests := []struct {
		err    error
		reason string
	}{
		{assign.ErrNoMediaHandlers, ReasonNoMediaHandlers},
		{assign.ErrNoControllers, ReasonNoMeetingControllers},
		{assign.ErrUnreachable, ReasonControllersUnreachable},
		{rejected(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY), ReasonControllersAtCapacity},
		{rejected(darktowerv1.RejectionReason_REJECTION_REASON_DRAINING), ReasonControllersDraining},
		{rejected(darktowerv1.RejectionReason_REJECTION_REASON_UNHEALTHY), ReasonControllersUnhealthy},
		{assign.ErrNoAssignment, ReasonNoAssignment},
		{assign.ErrFenced, ReasonFenced},
		{fmt.Errorf("placing: %w", assign.ErrNoControllers), ReasonNoMeetingControllers},
	}
	for _, test := range tests {
		got := placementStatus(test.err, fsm.MeetingKey{Region: "eu", MeetingID: "m"}, 7)
		if ReasonOf(got) != test.reason {
			t.Errorf("%v: got %q, want %q", test.err, ReasonOf(got), test.reason)
		}
	}
	if got := placementStatus(raftnode.ErrNotLeader, fsm.MeetingKey{}, 0); !errors.Is(got, raftnode.ErrNotLeader) {
		t.Errorf("what is not about the meeting is left as it is, to be tried again: %v", got)
	}
}

// The more time a caller has, the more of it the search for a leader may use; the answer always
// has some left to travel.
func TestGiveUpLeavesTimeToAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Server{config: Config{ForwardTimeout: 5 * time.Second}}
		for left, want := range map[time.Duration]time.Duration{
			20 * time.Millisecond:  15 * time.Millisecond,
			400 * time.Millisecond: 300 * time.Millisecond,
			2 * time.Second:        1900 * time.Millisecond,
			5 * time.Second:        4900 * time.Millisecond,
			time.Minute:            5 * time.Second,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			if got := time.Until(s.giveUp(ctx)); got != want {
				t.Errorf("a caller with %v is answered after %v, want %v", left, got, want)
			}
			cancel()
		}
		if got := time.Until(s.giveUp(t.Context())); got != 5*time.Second {
			t.Errorf("a caller without a deadline is answered after %v", got)
		}
	})
}
