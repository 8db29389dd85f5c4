package batch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// tour counts rounds; each takes a second of the bubble's time and returns when it began.
type tour struct {
	rounds Rounds[time.Time]
	count  atomic.Int32
	atOnce atomic.Int32
	fails  error
}

func (r *tour) run() (time.Time, error) {
	if r.atOnce.Add(1) > 1 {
		panic("two rounds at once")
	}
	defer r.atOnce.Add(-1)
	r.count.Add(1)
	began := time.Now()
	time.Sleep(time.Second)
	return began, r.fails
}

func TestARoundBeginsAtOnceWhenNoneIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r tour
		for range 3 {
			called := time.Now()
			began, err := r.rounds.Do(t.Context(), r.run)
			if err != nil || !began.Equal(called) || time.Since(called) != time.Second {
				t.Errorf("began %v after the call, took %v, %v", began.Sub(called), time.Since(called), err)
			}
		}
		if n := r.count.Load(); n != 3 {
			t.Errorf("%d rounds, want 3", n)
		}
	})
}

// What a round of before found may have changed since: a reader must not be answered with it.
func TestACallNeverSharesARoundThatBeganBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r tour
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				called := time.Now()
				began, err := r.rounds.Do(t.Context(), r.run)
				if err != nil || began.Before(called) {
					t.Errorf("a call at %v was answered by a round that began %v before it, %v", called, called.Sub(began), err)
				}
				if waited := time.Since(called); waited > 2*time.Second {
					t.Errorf("waited %v: longer than the round under way and the next", waited)
				}
			})
		}
		all.Wait()
		if n := r.count.Load(); n != 5 {
			t.Errorf("%d rounds of a second for calls in four, want 5", n)
		}
	})
}

func TestCallsThatComeMeanwhileShareTheNextRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r tour
		var all sync.WaitGroup
		all.Go(func() { _, _ = r.rounds.Do(t.Context(), r.run) })
		synctest.Wait()
		for range 100 {
			all.Go(func() { _, _ = r.rounds.Do(t.Context(), r.run) })
		}
		all.Wait()
		if n := r.count.Load(); n != 2 {
			t.Errorf("%d rounds, want 2", n)
		}
	})
}

func TestAFailedRoundIsFailedForItsCallersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("not confirmed")
		r := tour{fails: broken}
		if _, err := r.rounds.Do(t.Context(), r.run); !errors.Is(err, broken) {
			t.Errorf("error %v, want %v", err, broken)
		}
		r.fails = nil
		if _, err := r.rounds.Do(t.Context(), r.run); err != nil {
			t.Errorf("the next round: %v", err)
		}
	})
}

func TestWhoGivesUpLeavesTheRoundToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r tour
		why := errors.New("the caller's reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := r.rounds.Do(ctx, r.run); !errors.Is(err, why) {
				t.Errorf("error %v, want %v", err, why)
			}
		})
		synctest.Wait()
		all.Go(func() {
			if _, err := r.rounds.Do(t.Context(), r.run); err != nil {
				t.Errorf("the other: %v", err)
			}
		})
		synctest.Wait()
		cancel(why)
		all.Wait()
		if n := r.count.Load(); n != 2 {
			t.Errorf("%d rounds, want 2", n)
		}
	})
}
