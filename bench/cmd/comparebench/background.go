package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-rtc/conclave/bench/measure"
)

// Which systems have a fleet that reports while they are measured.
const (
	behindAll      = "all"
	behindConclave = "conclave"
	behindNone     = "none"
)

// background is the fleet that reports to a system while something else is measured.
type background struct {
	failures *failures
	end      context.CancelCauseFunc
	ended    sync.WaitGroup
}

var errStopped = errors.New("stopped")

// inBackground runs the reports until stop. Their sample counts for nothing, their failures do.
func inBackground(reason func(error) string, run func(context.Context, *failures) (*measure.Sample, error)) *background {
	ctx, end := context.WithCancelCause(context.Background())
	b := &background{end: end, failures: &failures{reason: reason}}
	b.ended.Go(func() { _, _ = run(ctx, b.failures) }) // its error can only be that it was stopped
	return b
}

// stop ends the reporting. There may be none.
func (b *background) stop() {
	if b != nil {
		b.failures.over.Store(true)
		b.end(errStopped)
		b.ended.Wait()
	}
}

// notes tell of reports that failed. There may be no reporting.
func (b *background) notes() []string {
	if b == nil || b.failures.n.Load() == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d reports in the background failed, the last of them with %v", b.failures.n.Load(), b.failures.last.Load())}
}

// failures counts reports that failed. It is safe for concurrent use.
type failures struct {
	reason func(error) string
	n      atomic.Int64
	last   atomic.Value // string
	over   atomic.Bool  // what fails from now on was stopped
}

// note counts a failure and names it.
func (f *failures) note(err error) string {
	reason := f.reason(err)
	f.add(reason)
	return reason
}

func (f *failures) add(reason string) {
	if !f.over.Load() {
		f.n.Add(1)
		f.last.Store(reason)
	}
}

const (
	// reportInterval is what the cluster asks its nodes for by default.
	reportInterval = 10 * time.Second
	// forever is longer than any run.
	forever = 1000 * time.Hour
)

// fleetPlan has so many nodes report once in each interval, in an open loop.
func fleetPlan(reporters int, warmUp, length, timeout time.Duration, f *failures) measure.Plan {
	rate := float64(reporters) / reportInterval.Seconds()
	return measure.Plan{
		Callers: max(64, int(rate/10)), // enough to keep the rate while each report takes 100 ms
		WarmUp:  warmUp, Time: length, Rate: rate, CallTimeout: timeout, Reason: f.note,
	}
}

// inTurn makes calls that are numbered in the order in which they are due, so that no node waits
// longer than the interval for its turn.
func inTurn(call func(ctx context.Context, caller, n, seq int) error) func(int) measure.Caller {
	var next atomic.Int64
	return func(caller int) measure.Caller {
		return func(ctx context.Context, n int) error { return call(ctx, caller, n, int(next.Add(1)-1)) }
	}
}
