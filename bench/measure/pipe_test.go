package measure

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// delayLine answers each batch a fixed time after it was sent.
type delayLine struct {
	ctx     context.Context
	delay   time.Duration
	answers chan answerAt
	refuse  func(call int) bool
	breakAt int // the call at which it breaks; 0: never
}

type answerAt struct {
	at          time.Time
	first, last int
}

func newDelayLine(ctx context.Context, delay time.Duration) *delayLine {
	return &delayLine{ctx: ctx, delay: delay, answers: make(chan answerAt, 1000), refuse: func(int) bool { return false }}
}

func (d *delayLine) Send(first, count int) error {
	d.answers <- answerAt{time.Now().Add(d.delay), first, first + count}
	return nil
}

func (d *delayLine) CloseSend() error { return nil }

func (d *delayLine) Receive() (int, []Refusal, error) {
	select {
	case a := <-d.answers:
		if d.breakAt > 0 && a.last > d.breakAt {
			return 0, nil, io.ErrUnexpectedEOF
		}
		if !sleepUntil(d.ctx, a.at) {
			return 0, nil, d.ctx.Err()
		}
		var refused []Refusal
		for call := a.first; call < a.last; call++ {
			if d.refuse(call) {
				refused = append(refused, Refusal{call, "refused"})
			}
		}
		return a.last, refused, nil
	case <-d.ctx.Done():
		return 0, nil, d.ctx.Err()
	}
}

func mustRunPipes(t *testing.T, p Pipes, open func(ctx context.Context, caller int) (Pipe, error)) *Sample {
	t.Helper()
	p.CallTimeout, p.Reason = time.Second, reason
	s, err := RunPipes(t.Context(), p, open)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func steady(delay time.Duration) func(context.Context, int) (Pipe, error) {
	return func(ctx context.Context, _ int) (Pipe, error) { return newDelayLine(ctx, delay), nil }
}

func TestPipesAreKeptFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 2 pipes of 64 calls in 10 ms.
		p := Pipes{Plan: Plan{Callers: 2, WarmUp: time.Second, Time: 2 * time.Second}, Window: 64, Batch: 16}
		s := mustRunPipes(t, p, steady(10*time.Millisecond))
		if s.PerSecond != 12_800 || s.Failed() != 0 {
			t.Errorf("%v a second and %d failed, want 12 800 and none", s.PerSecond, s.Failed())
		}
		near(t, "p50", s.Latency.P50, 10*time.Millisecond)
		near(t, "max", s.Latency.Max, 10*time.Millisecond)
	})
}

func TestRefusedCallsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pipes{Plan: Plan{Callers: 1, Time: time.Second}, Window: 8, Batch: 8}
		s := mustRunPipes(t, p, func(ctx context.Context, _ int) (Pipe, error) {
			d := newDelayLine(ctx, 10*time.Millisecond)
			d.refuse = func(call int) bool { return call%4 == 1 }
			return d, nil
		})
		if s.Failures["refused"] != 200 || s.Operations != 600 {
			t.Errorf("%d done and failures %v, want 600 and 200", s.Operations, s.Failures)
		}
	})
}

func TestBrokenPipeIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opened := 0
		p := Pipes{Plan: Plan{Callers: 1, Time: time.Second}, Window: 10, Batch: 10}
		s := mustRunPipes(t, p, func(ctx context.Context, _ int) (Pipe, error) {
			d := newDelayLine(ctx, 10*time.Millisecond)
			if opened++; opened == 1 {
				d.breakAt = 500
			}
			return d, nil
		})
		if opened != 2 || s.Failed() != 10 {
			t.Errorf("opened %d times and failures %v, want 2 and the 10 on their way", opened, s.Failures)
		}
		if s.Operations < 900 {
			t.Errorf("%d done: it did not go on", s.Operations)
		}
	})
}

func TestPipeThatCannotBeOpenedFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pipes{Plan: Plan{Callers: 1, Time: time.Second}, Window: 1, Batch: 1}
		s := mustRunPipes(t, p, func(context.Context, int) (Pipe, error) { return nil, errRefused })
		if FailedShare([]*Sample{s}) != 1 || s.Failures["refused"] == 0 {
			t.Errorf("failures %v of %d", s.Failures, s.Operations)
		}
	})
}

func TestSilentPipeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pipes{Plan: Plan{Callers: 1, Time: time.Second}, Window: 32, Batch: 8}
		s := mustRunPipes(t, p, steady(time.Hour))
		if s.Operations != 0 || s.Failed() != 32 {
			t.Errorf("%d done and failures %v, want the 32 that were sent", s.Operations, s.Failures)
		}
	})
}

func TestOpenPipesHoldTheirRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pipes{Plan: Plan{Callers: 4, WarmUp: time.Second, Time: 2 * time.Second, Rate: 1000}, Window: 100, Batch: 10}
		s := mustRunPipes(t, p, steady(5*time.Millisecond))
		if s.Operations != 2000 || s.Unsent != 0 || s.Failed() != 0 {
			t.Errorf("%d done, %d unsent, failures %v; want 2000 and none", s.Operations, s.Unsent, s.Failures)
		}
		near(t, "max", s.Latency.Max, 5*time.Millisecond)
	})
}

func TestOpenPipesGatherWhatIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sends := 0
		p := Pipes{Plan: Plan{Callers: 1, Time: time.Second, Rate: 1000}, Window: 100, Batch: 50, Gather: 9 * time.Millisecond}
		s := mustRunPipes(t, p, func(ctx context.Context, _ int) (Pipe, error) {
			return countedPipe{newDelayLine(ctx, time.Millisecond), &sends}, nil
		})
		if s.Operations != 1000 || sends != 100 {
			t.Errorf("%d done in %d sends, want 1000 in 100", s.Operations, sends)
		}
		near(t, "max", s.Latency.Max, 10*time.Millisecond)
	})
}

type countedPipe struct {
	Pipe
	sends *int
}

func (c countedPipe) Send(first, count int) error {
	*c.sends++
	return c.Pipe.Send(first, count)
}

// 100 a second fit, 1000 are due: what was never sent has failed, and the rest waited since it was due.
func TestOpenPipesThatNeverCatchUpSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pipes{Plan: Plan{Callers: 1, Time: time.Second, Rate: 1000}, Window: 10, Batch: 10}
		s := mustRunPipes(t, p, steady(100*time.Millisecond))
		if all := s.Operations + s.Unsent + s.Failed(); all != 1000 || s.Unsent < 750 {
			t.Errorf("%d done, %d unsent, failures %v; want 1000 in all, most of them unsent", s.Operations, s.Unsent, s.Failures)
		}
		if s.Latency.Max < time.Second {
			t.Errorf("max is %v: it does not count from when a call was due", s.Latency.Max)
		}
	})
}

func TestPipesEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errRefused)
		defer cancel()
		p := Pipes{Plan: Plan{Callers: 2, Time: time.Hour, CallTimeout: time.Second, Reason: reason}, Window: 4, Batch: 2}
		if _, err := RunPipes(ctx, p, steady(time.Millisecond)); !errors.Is(err, errRefused) {
			t.Errorf("error is %v, want the context's cause", err)
		}
	})
}
