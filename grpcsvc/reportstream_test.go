package grpcsvc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"
)

// All streams together wait for room as long as a call looks for a leader.
func TestStreamsShareTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &reportStream{Server: &Server{
			config:    Config{ForwardTimeout: 3 * time.Second},
			undecided: semaphore.NewWeighted(10),
		}}
		if err := s.admitReports(t.Context(), 8); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := s.admitReports(t.Context(), 3)
		if ReasonOf(err) != ReasonOverloaded || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v, want OVERLOADED after 3 s", err, time.Since(began))
		}
		time.AfterFunc(time.Second, func() { s.Server.undecided.Release(8) })
		if err := s.admitReports(t.Context(), 10); err != nil {
			t.Errorf("there was room in time: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := s.admitReports(ctx, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("the client left: %v", err)
		}
	})
}
