package measure

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Caller makes one call; n counts the calls of this caller from 0. It is used by one goroutine.
type Caller func(ctx context.Context, n int) error

// Plan says how calls are made.
type Plan struct {
	// Callers is how many calls are under way at once: exactly in a closed loop, at most in an
	// open one.
	Callers int
	// WarmUp passes before Time begins; its calls are not in the sample.
	WarmUp time.Duration
	Time   time.Duration
	// Rate makes the loop an open one: so many calls a second are due, however slow the answers
	// are. 0: a closed loop, in which each caller calls again when it has its answer.
	Rate float64
	// CallTimeout bounds each call.
	CallTimeout time.Duration
	// Reason names an error in the sample.
	Reason func(error) string
}

// lateness is how many times Time an open loop may take to make the calls that are due.
const lateness = 2

// Run makes the calls of a plan; newCaller is called once for each caller, before any call. When
// the context ends first, its cause is returned.
func Run(ctx context.Context, p Plan, newCaller func(caller int) Caller) (*Sample, error) {
	if p.Callers < 1 || p.Time <= 0 || p.CallTimeout <= 0 {
		return nil, errors.New("measure: callers, time and the call timeout must be above zero")
	}
	workers := make([]*worker, p.Callers)
	for i := range workers {
		workers[i] = &worker{plan: p, call: newCaller(i), tally: newTally()}
	}
	begin := time.Now()
	window := window{from: begin.Add(p.WarmUp), to: begin.Add(p.WarmUp + p.Time)}
	loop := func(w *worker) { w.closed(ctx) }
	var due *schedule
	if p.Rate > 0 {
		due = newSchedule(p, begin)
		window.from = due.at(due.warmUp)
		loop = func(w *worker) { w.open(ctx, due) }
	}
	var running sync.WaitGroup
	for _, w := range workers {
		w.tally.window = window
		running.Go(func() { loop(w) })
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	total := newTally()
	for _, w := range workers {
		total.merge(w.tally)
	}
	sample := total.sample(window.to.Sub(window.from))
	if due != nil {
		sample.Unsent = due.total - due.warmUp - sample.Operations - sample.Failed()
	}
	return sample, nil
}

// worker is one caller and what it saw. Nothing of it is shared while calls are made.
type worker struct {
	plan  Plan
	call  Caller
	tally *tally
}

func (w *worker) closed(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		began := time.Now()
		if !began.Before(w.tally.window.to) {
			return
		}
		w.once(ctx, n, began)
	}
}

// open takes what is due next. What is late is called at once, and its latency counts from when
// it was due: whoever wanted an answer then has waited since.
func (w *worker) open(ctx context.Context, due *schedule) {
	for n := 0; ; n++ {
		at, ok := due.next()
		if !ok || !sleepUntil(ctx, at) {
			return
		}
		w.once(ctx, n, at)
	}
}

func (w *worker) once(ctx context.Context, n int, began time.Time) {
	callCtx, cancel := context.WithTimeout(ctx, w.plan.CallTimeout)
	err := w.call(callCtx, n)
	ended := time.Now()
	cancel()
	if err != nil {
		w.tally.failed(began, w.plan.Reason(err))
		return
	}
	w.tally.done(began, ended)
}

// schedule is when the calls of an open loop are due. It is safe for concurrent use.
type schedule struct {
	begin         time.Time
	interval      float64 // nanoseconds
	warmUp, total int64   // calls
	giveUp        time.Time
	taken         atomic.Int64
}

func newSchedule(p Plan, begin time.Time) *schedule {
	calls := func(d time.Duration) int64 { return int64(math.Round(p.Rate * d.Seconds())) }
	return &schedule{
		begin:    begin,
		interval: float64(time.Second) / p.Rate,
		warmUp:   calls(p.WarmUp),
		total:    calls(p.WarmUp) + calls(p.Time),
		giveUp:   begin.Add(p.WarmUp + lateness*p.Time),
	}
}

func (s *schedule) at(call int64) time.Time {
	return s.begin.Add(time.Duration(float64(call) * s.interval))
}

// next returns when the next call is due; false when there is none, or when it is so late that
// the system will never catch up.
func (s *schedule) next() (time.Time, bool) {
	call := s.taken.Add(1) - 1
	if call >= s.total || time.Now().After(s.giveUp) {
		return time.Time{}, false
	}
	return s.at(call), true
}

// sleepUntil returns false as soon as the context ends.
func sleepUntil(ctx context.Context, at time.Time) bool {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
