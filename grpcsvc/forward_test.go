package grpcsvc

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Attempts go on until one is decided. "Overloaded" says that nothing was done, so it is no answer after an
// attempt of which that is not known.
func TestRetry(t *testing.T) {
	broken := errors.New("disk full")
	tests := []struct {
		name     string
		attempts []error // the last goes on for ever
		want     error   // nil: success
		reason   string
	}{
		{name: "success", attempts: []error{nil}},
		{name: "the leader is found", attempts: []error{raftnode.ErrNotLeader, errNoLeaderYet, raftnode.ErrInDoubt, nil}},
		{name: "no leader", attempts: []error{raftnode.ErrNotLeader}, reason: ReasonNoLeader},
		{name: "another failure", attempts: []error{raftnode.ErrInDoubt, broken}, want: broken},
		{name: "overloaded", attempts: []error{errOverloaded}, reason: ReasonOverloaded},
		{name: "overloaded, nothing done before", attempts: []error{raftnode.ErrNotLeader, errOverloaded}, reason: ReasonOverloaded},
		{name: "overloaded, once", attempts: []error{errNoLeaderYet, errOverloaded, nil}},
		{name: "overloaded after an answer was lost", attempts: []error{errNoLeaderYet, errOverloaded}, reason: ReasonNoLeader},
		{name: "too many commands after that", attempts: []error{raftnode.ErrInDoubt, raftnode.ErrOverloaded}, reason: ReasonNoLeader},
		{name: "a full queue after that", attempts: []error{raftnode.ErrInDoubt, batch.ErrFull}, reason: ReasonNoLeader},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &Server{config: Config{ForwardTimeout: time.Second}}
				got, err := retry(t.Context(), s, func() (string, error) {
					next := test.attempts[0]
					if len(test.attempts) > 1 {
						test.attempts = test.attempts[1:]
					}
					return "done", next
				})
				switch {
				case test.reason != "":
					if ReasonOf(err) != test.reason {
						t.Errorf("got %q, want %q", ReasonOf(err), test.reason)
					}
				case !errors.Is(err, test.want):
					t.Errorf("got %v, want %v", err, test.want)
				case err == nil && got != "done":
					t.Errorf("got %q", got)
				}
			})
		})
	}
}

// A replica that was taken for the leader says so at once: who asked looks for the leader.
func TestRetryOfAForwardedCall(t *testing.T) {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(headerForwarded, "gc-2"))
	_, err := retry(ctx, new(Server), func() (string, error) { return "", raftnode.ErrNotLeader })
	if status.Code(err) != codes.FailedPrecondition || ReasonOf(err) != reasonNotLeader {
		t.Errorf("got %v", err)
	}
}
