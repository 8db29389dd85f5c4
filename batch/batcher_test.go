package batch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// line is a batcher over a slow line: each send takes a second of the bubble's time.
type line struct {
	*Batcher[int, string]
	done chan struct{}

	mu    sync.Mutex
	sends [][]int
	fails error
}

func newLine(l Limits) *line {
	s := &line{done: make(chan struct{})}
	s.Batcher = NewBatcher(l, s.done, func(in []int) ([]string, error) {
		s.mu.Lock()
		s.sends = append(s.sends, slices.Clone(in))
		fails := s.fails
		s.mu.Unlock()
		time.Sleep(time.Second)
		if fails != nil {
			return nil, fails
		}
		out := make([]string, len(in))
		for i, n := range in {
			out[i] = fmt.Sprint("answer to ", n)
		}
		return out, nil
	})
	return s
}

// sent are the batches sent so far.
func (s *line) sent() [][]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sends)
}

// pending is a call in the background; what it returned is there when the channel is closed.
type pending struct {
	answered chan struct{}
	out      string
	err      error
	took     time.Duration
}

func (s *line) call(ctx context.Context, n int) *pending {
	p := &pending{answered: make(chan struct{})}
	began := time.Now()
	go func() {
		defer close(p.answered)
		p.out, p.err = s.Do(ctx, n)
		p.took = time.Since(began)
	}()
	synctest.Wait() // it is queued, in this order
	return p
}

func (p *pending) expect(t *testing.T, out string, err error, took time.Duration) {
	t.Helper()
	<-p.answered
	if p.out != out || !errors.Is(p.err, err) || p.took != took {
		t.Errorf("%q, %v after %v; want %q, %v after %v", p.out, p.err, p.took, out, err, took)
	}
}

func inBubble(t *testing.T, l Limits, test func(t *testing.T, s *line)) {
	synctest.Test(t, func(t *testing.T) {
		s := newLine(l)
		test(t, s)
		select {
		case <-s.done:
		default:
			close(s.done)
		}
		synctest.Wait()
	})
}

var roomy = Limits{Batch: 100, Queue: 100, InFlight: 1}

func TestAnIdleLineTakesACallAtOnce(t *testing.T) {
	inBubble(t, roomy, func(t *testing.T, s *line) {
		for n := range 3 {
			s.call(t.Context(), n).expect(t, fmt.Sprint("answer to ", n), nil, time.Second)
		}
		if len(s.sent()) != 3 {
			t.Errorf("sends %v, want one for each call", s.sent())
		}
	})
}

func TestABusyLineTakesAllThatCameMeanwhile(t *testing.T) {
	inBubble(t, roomy, func(t *testing.T, s *line) {
		first := s.call(t.Context(), 0)
		var rest []*pending
		for n := 1; n <= 5; n++ {
			rest = append(rest, s.call(t.Context(), n))
		}
		first.expect(t, "answer to 0", nil, time.Second)
		for i, p := range rest {
			p.expect(t, fmt.Sprint("answer to ", i+1), nil, 2*time.Second) // each its own
		}
		if want := [][]int{{0}, {1, 2, 3, 4, 5}}; !slices.EqualFunc(s.sent(), want, slices.Equal) {
			t.Errorf("sends %v, want %v", s.sent(), want)
		}
	})
}

func TestABatchIsBounded(t *testing.T) {
	inBubble(t, Limits{Batch: 2, Queue: 100, InFlight: 1}, func(t *testing.T, s *line) {
		var all []*pending
		for n := range 6 {
			all = append(all, s.call(t.Context(), n))
		}
		for i, p := range all {
			p.expect(t, fmt.Sprint("answer to ", i), nil, time.Duration((i+1)/2+1)*time.Second)
		}
		if want := [][]int{{0}, {1, 2}, {3, 4}, {5}}; !slices.EqualFunc(s.sent(), want, slices.Equal) {
			t.Errorf("sends %v, want %v", s.sent(), want)
		}
	})
}

func TestSendsUnderWayAreBounded(t *testing.T) {
	inBubble(t, Limits{Batch: 100, Queue: 100, InFlight: 2}, func(t *testing.T, s *line) {
		for n := range 5 {
			s.call(t.Context(), n)
		}
		if want := [][]int{{0}, {1}}; !slices.EqualFunc(s.sent(), want, slices.Equal) {
			t.Errorf("sends under way %v, want %v", s.sent(), want)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []int{2, 3, 4}; len(s.sent()) != 3 || !slices.Equal(s.sent()[2], want) {
			t.Errorf("sends %v, want a third of %v", s.sent(), want)
		}
		time.Sleep(time.Second)
	})
}

func TestOneErrorIsForAllOfTheBatchAndForNoOther(t *testing.T) {
	inBubble(t, roomy, func(t *testing.T, s *line) {
		broken := errors.New("the line is broken")
		first := s.call(t.Context(), 0)
		s.mu.Lock()
		s.fails = broken
		s.mu.Unlock()
		second, third := s.call(t.Context(), 1), s.call(t.Context(), 2)
		first.expect(t, "answer to 0", nil, time.Second)
		synctest.Wait() // the second send is under way
		s.mu.Lock()
		s.fails = nil
		s.mu.Unlock()
		fourth := s.call(t.Context(), 3)
		second.expect(t, "", broken, 2*time.Second)
		third.expect(t, "", broken, 2*time.Second)
		fourth.expect(t, "answer to 3", nil, 2*time.Second)
	})
}

func TestAFullQueueRefusesAtOnce(t *testing.T) {
	inBubble(t, Limits{Batch: 100, Queue: 2, InFlight: 1}, func(t *testing.T, s *line) {
		first := s.call(t.Context(), 0)
		waiting := []*pending{s.call(t.Context(), 1), s.call(t.Context(), 2)}
		s.call(t.Context(), 3).expect(t, "", ErrFull, 0)
		first.expect(t, "answer to 0", nil, time.Second)
		for i, p := range waiting {
			p.expect(t, fmt.Sprint("answer to ", i+1), nil, 2*time.Second)
		}
		for _, sent := range s.sent() {
			if slices.Contains(sent, 3) {
				t.Error("a call that was refused was sent")
			}
		}
		s.call(t.Context(), 4).expect(t, "answer to 4", nil, time.Second) // there is room again
	})
}

func TestACallerThatGivesUpDoesNotHoldUpTheRest(t *testing.T) {
	inBubble(t, roomy, func(t *testing.T, s *line) {
		why := errors.New("the caller's reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		leaves, stays := s.call(ctx, 0), s.call(t.Context(), 1)
		time.Sleep(time.Second / 2)
		cancel(why)
		leaves.expect(t, "", why, time.Second/2)
		stays.expect(t, "answer to 1", nil, 2*time.Second)
	})
}

func TestStoppingEndsTheCallsUnderWay(t *testing.T) {
	inBubble(t, roomy, func(t *testing.T, s *line) {
		sent, waits := s.call(t.Context(), 0), s.call(t.Context(), 1)
		time.Sleep(time.Second / 2)
		close(s.done)
		sent.expect(t, "", ErrClosed, time.Second/2)
		waits.expect(t, "", ErrClosed, time.Second/2)
		s.call(t.Context(), 2).expect(t, "", ErrClosed, 0)
		time.Sleep(time.Minute)
		if len(s.sent()) != 1 {
			t.Errorf("sends %v after stopping, want the first alone", s.sent())
		}
	})
}

func TestManyCallersEachGetTheirOwnAnswer(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	b := NewBatcher(Limits{Batch: 16, Queue: 1000, InFlight: 3}, done, func(in []int) ([]int, error) {
		out := make([]int, len(in))
		for i, n := range in {
			out[i] = -n
		}
		return out, nil
	})
	var all sync.WaitGroup
	for caller := range 50 {
		all.Go(func() {
			for i := range 100 {
				n := caller*1000 + i
				if got, err := b.Do(t.Context(), n); err != nil || got != -n {
					t.Errorf("%d is answered %d, %v", n, got, err)
				}
			}
		})
	}
	all.Wait()
}

// Callers that were answered together come back together: a batch that follows a large one waits
// for them, and one that follows a small one does not.
func TestLinger(t *testing.T) {
	limits := Limits{Batch: 10, Queue: 100, InFlight: 1, Linger: 300 * time.Millisecond}
	synctest.Test(t, func(t *testing.T) {
		s := newLine(limits)
		defer close(s.done)
		alone := s.call(t.Context(), 1) // is sent at once, and so is what follows it
		synctest.Wait()
		together := []*pending{s.call(t.Context(), 2), s.call(t.Context(), 3), s.call(t.Context(), 4)}
		<-alone.answered
		for _, p := range together {
			<-p.answered
		}
		first := s.call(t.Context(), 5)
		time.Sleep(100 * time.Millisecond)
		second := s.call(t.Context(), 6)
		time.Sleep(100 * time.Millisecond)
		third := s.call(t.Context(), 7) // as many as before: no longer
		for _, p := range []*pending{first, second, third} {
			<-p.answered
		}
		if first.took != 1200*time.Millisecond || second.took != 1100*time.Millisecond || third.took != time.Second {
			t.Errorf("answers took %v, %v and %v: the batch must be sent once it is as large as the one before", first.took, second.took, third.took)
		}
		if last := s.call(t.Context(), 8); true {
			<-last.answered
			if last.took != 1300*time.Millisecond {
				t.Errorf("the answer took %v, want the linger of 300ms and a second", last.took)
			}
		}
		if idle := s.call(t.Context(), 9); true {
			<-idle.answered
			if idle.took != time.Second {
				t.Errorf("after a batch of one the answer took %v, want a second: no wait when idle", idle.took)
			}
		}
		want := [][]int{{1}, {2, 3, 4}, {5, 6, 7}, {8}, {9}}
		if got := s.sent(); !slices.EqualFunc(got, want, func(a, b []int) bool { slices.Sort(a); return slices.Equal(a, b) }) {
			t.Errorf("sent %v, want %v", got, want)
		}
	})
}

// Callers that take turns are two batches after one another, for good, unless a batch waits to see
// whether more come.
func TestProbe(t *testing.T) {
	for _, tc := range []struct {
		probe int
		want  []int
	}{
		{0, []int{1, 2, 2, 2, 2, 2}},
		{4, []int{1, 2, 2, 4, 4, 4}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newLine(Limits{Batch: 10, Queue: 100, InFlight: 1, Linger: 200 * time.Millisecond, Probe: tc.probe})
			defer close(s.done)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			come := func(n int) {
				all.Go(func() {
					for ctx.Err() == nil {
						_, _ = s.Do(context.Background(), n)
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			first := s.call(ctx, 0)
			come(1)
			come(2)
			<-first.answered
			time.Sleep(500 * time.Millisecond) // theirs is under way
			come(3)
			come(4)
			time.Sleep(10 * time.Second)
			stop()
			all.Wait()
			var sizes []int
			for _, sent := range s.sent()[:len(tc.want)] {
				sizes = append(sizes, len(sent))
			}
			if !slices.Equal(sizes, tc.want) {
				t.Errorf("with a probe every %d: batches of %v, want %v", tc.probe, sizes, tc.want)
			}
		})
	}
}
