package main

import (
	"context"
	"fmt"
	"time"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/measure"
)

// streamGather is how long a report waits at whoever speaks for many media handlers, so that others
// go with it.
const streamGather = 100 * time.Millisecond

// reportsBy says how the fleet around Conclave reports.
func reportsBy(how string) string {
	if how == stream {
		return fmt.Sprintf("over %d streams for each replica, which gather reports for %v", streamsPerReplica, streamGather)
	}
	return "by a call of its own"
}

// reportAll reports for every media handler in turn, each once in the interval, over streams or not.
func (c *conclave) reportAll(ctx context.Context, f *failures, warmUp, length time.Duration) (*measure.Sample, error) {
	p := fleetPlan(c.MediaHandlers, warmUp, length, calls.Timeout, f)
	if c.reportBy == unary {
		return measure.Run(ctx, p, inTurn(func(ctx context.Context, caller, n, seq int) error {
			return calls.Report(ctx, c.all.Conn(p.Callers, caller, n), c.MediaHandler(seq%c.MediaHandlers).ID, seq)
		}))
	}
	p.Callers = min(streamsPerReplica*c.replicas, c.MediaHandlers)
	return measure.RunPipes(ctx, measure.Pipes{Plan: p, Window: streamWindow, Batch: streamWindow, Gather: streamGather},
		func(ctx context.Context, stream int) (measure.Pipe, error) {
			pipe, err := c.openStream(ctx, p.Callers, stream)
			return watchedPipe{pipe, f}, err
		})
}

// reportInBackground begins to report for all media handlers.
func (c *conclave) reportInBackground() *background {
	return inBackground(calls.Reason, func(ctx context.Context, f *failures) (*measure.Sample, error) {
		return c.reportAll(ctx, f, 0, forever)
	})
}

// watchedPipe counts refusals as they come.
type watchedPipe struct {
	measure.Pipe
	failures *failures
}

func (w watchedPipe) Receive() (int, []measure.Refusal, error) {
	decided, refused, err := w.Pipe.Receive()
	for _, r := range refused {
		w.failures.add(r.Reason)
	}
	return decided, refused, err
}
