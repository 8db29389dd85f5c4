package measure

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errRefused = errors.New("refused")

func reason(err error) string { return err.Error() }

// sleeper is a system that answers after a time that depends on the call.
func sleeper(takes func(n int) time.Duration) func(int) Caller {
	return func(int) Caller {
		return func(ctx context.Context, n int) error {
			select {
			case <-time.After(takes(n)):
				return nil
			case <-ctx.Done():
				return errors.New("timed out")
			}
		}
	}
}

func always(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }

func mustRun(t *testing.T, p Plan, newCaller func(int) Caller) *Sample {
	t.Helper()
	p.CallTimeout, p.Reason = 10*time.Second, reason
	s, err := Run(t.Context(), p, newCaller)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// near allows for the three digits that a histogram keeps.
func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if diff := (got - want).Abs(); diff > want/500+time.Microsecond {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

func TestClosedLoopKeepsEveryCallerBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustRun(t, Plan{Callers: 4, WarmUp: time.Second, Time: 2 * time.Second}, sleeper(always(10*time.Millisecond)))
		if s.PerSecond != 400 || s.Operations != 800 {
			t.Errorf("4 callers of 10 ms: %v a second, %d in all; want 400 and 800", s.PerSecond, s.Operations)
		}
		near(t, "p50", s.Latency.P50, 10*time.Millisecond)
		near(t, "max", s.Latency.Max, 10*time.Millisecond)
	})
}

func TestPercentiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 1000 calls: 985 of 1 ms, 10 of 20 ms, 5 of 100 ms.
		takes := func(n int) time.Duration {
			switch {
			case n%200 == 0:
				return 100 * time.Millisecond
			case n%100 == 50:
				return 20 * time.Millisecond
			}
			return time.Millisecond
		}
		// 1.685 s is what exactly 1000 calls take.
		s := mustRun(t, Plan{Callers: 1, Time: 1685 * time.Millisecond}, sleeper(takes))
		if s.Operations != 1000 {
			t.Fatalf("%d calls, want 1000", s.Operations)
		}
		near(t, "p50", s.Latency.P50, time.Millisecond)
		near(t, "p90", s.Latency.P90, time.Millisecond)
		near(t, "p95", s.Latency.P95, time.Millisecond)
		near(t, "p99", s.Latency.P99, 20*time.Millisecond)
		near(t, "p99.9", s.Latency.P999, 100*time.Millisecond)
		near(t, "max", s.Latency.Max, 100*time.Millisecond)
	})
}

func TestWarmUpIsNotMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := func(n int) time.Duration {
			if n < 10 {
				return 100 * time.Millisecond // the first second
			}
			return time.Millisecond
		}
		s := mustRun(t, Plan{Callers: 1, WarmUp: time.Second, Time: time.Second}, sleeper(takes))
		near(t, "max", s.Latency.Max, time.Millisecond)
	})
}

func TestStallAtTheEndIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := func(n int) time.Duration {
			if n == 99 {
				return 5 * time.Second // begins just before the end
			}
			return 10 * time.Millisecond
		}
		s := mustRun(t, Plan{Callers: 1, Time: time.Second}, sleeper(takes))
		near(t, "max", s.Latency.Max, 5*time.Second)
		if s.PerSecond != 99 {
			t.Errorf("%v a second, want 99: the last one came too late", s.PerSecond)
		}
	})
}

func TestFailuresAreCountedByReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustRun(t, Plan{Callers: 2, Time: time.Second}, func(int) Caller {
			return func(_ context.Context, n int) error {
				time.Sleep(10 * time.Millisecond)
				if n%4 == 0 {
					return errRefused
				}
				return nil
			}
		})
		if s.Operations != 150 || s.PerSecond > 150 || s.Failures["refused"] != 50 {
			t.Errorf("got %d successes (%v a second), failures %v; want 150 and 50", s.Operations, s.PerSecond, s.Failures)
		}
		if got := FailedShare([]*Sample{s}); got != 0.25 {
			t.Errorf("failed share is %v, want 0.25", got)
		}
	})
}

func TestCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Plan{Callers: 1, Time: time.Second, CallTimeout: 100 * time.Millisecond, Reason: reason}
		s, err := Run(t.Context(), p, sleeper(always(time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		if s.Failures["timed out"] != 10 || s.Operations != 0 {
			t.Errorf("got %d successes and failures %v, want 10 timeouts", s.Operations, s.Failures)
		}
	})
}

func TestOpenLoopHoldsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustRun(t, Plan{Callers: 8, WarmUp: time.Second, Time: 2 * time.Second, Rate: 250}, sleeper(always(5*time.Millisecond)))
		if s.Operations != 500 || s.Unsent != 0 {
			t.Errorf("%d calls and %d unsent, want 500 and 0", s.Operations, s.Unsent)
		}
		near(t, "max", s.Latency.Max, 5*time.Millisecond)
	})
}

// One stall of half a second at 100 calls a second keeps 50 callers waiting, not one.
func TestOpenLoopCountsWhatAStallHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		takes := func(n int) time.Duration {
			if n == 100 {
				return 500 * time.Millisecond
			}
			return 0
		}
		s := mustRun(t, Plan{Callers: 1, Time: 5 * time.Second, Rate: 100}, sleeper(takes))
		if s.Operations != 500 {
			t.Fatalf("%d calls, want 500", s.Operations)
		}
		near(t, "max", s.Latency.Max, 500*time.Millisecond)
		// The 50 that were due meanwhile took 500, 490, 480 ms and so on: the sixth is at 99 %.
		near(t, "p99", s.Latency.P99, 450*time.Millisecond)
		near(t, "p50", s.Latency.P50, 0)
	})
}

func TestOpenLoopThatNeverCatchesUpSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 10 calls a second are possible, 100 are due: 100 in the first second, and 10 of them
		// are made by then; the loop gives up after the second one.
		s := mustRun(t, Plan{Callers: 1, Time: time.Second, Rate: 100}, sleeper(always(100*time.Millisecond)))
		if made := s.Operations; made < 20 || made > 22 || s.Unsent != 100-made {
			t.Errorf("%d made and %d unsent, want about 20 and the rest of 100", s.Operations, s.Unsent)
		}
		if got := FailedShare([]*Sample{s}); got < 0.77 {
			t.Errorf("failed share is %v: what was never made has failed", got)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	for name, rate := range map[string]float64{"closed": 0, "open": 0.5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errRefused)
				defer cancel()
				began := time.Now()
				p := Plan{Callers: 2, Time: time.Hour, Rate: rate, CallTimeout: time.Second, Reason: reason}
				if _, err := Run(ctx, p, sleeper(always(time.Millisecond))); !errors.Is(err, errRefused) {
					t.Errorf("error is %v, want the context's cause", err)
				}
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("took %v to end", took)
				}
			})
		})
	}
}
