package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/measure"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// scaleCallers are those of the joins that are compared.
var scaleCallers = []int{1, 64}

// runScale fills a cluster with live meetings, and measures what they cost.
func (b *bencher) runScale(ctx context.Context) (report, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	// --pprof is how a replica is told to collect its garbage.
	c, err := b.runConclave(ctx, filepath.Join(b.work, "cluster"), "--pprof")
	if err != nil {
		return nil, err
	}
	c.background = c.reportInBackground()
	s := &scaleReport{heading: b.heading(), Fleet: c.Size, ReportBy: b.reportBy, Wanted: b.meetings, Loading: b.loading}
	fmt.Fprintf(b.out, "%v are registered and report\n", c.Size)
	if err := errors.Join(s.measure(ctx, c), c.stop()); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *scaleReport) measure(ctx context.Context, c *conclave) (err error) {
	if s.FewJoins, err = c.joins(ctx, "few"); err != nil {
		return err
	}
	// Now, when every connection that is used is open: what the heap grows by is meetings.
	if s.Few, err = c.census(ctx); err != nil {
		return err
	}
	if err := s.load(ctx, c); err != nil {
		return err
	}
	if s.All, err = c.census(ctx); err != nil {
		return err
	}
	s.Hosted = c.fleet.Hosted()
	if s.AllJoins, err = c.joins(ctx, "all"); err != nil {
		return err
	}
	// Before a replica is killed, which fails what is on its way there.
	if s.Notes, err = c.notes(ctx); err != nil {
		return err
	}
	s.Restarted, s.ReadyAfter, err = c.restartOne(ctx)
	return err
}

// census is what a cluster holds, and what it takes.
func (c *conclave) census(ctx context.Context) (census, error) {
	leader, _, err := c.leadership(ctx)
	if err != nil {
		return census{}, err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return census{}, fmt.Errorf("count the live meetings: %w", err)
	}
	counted := census{Meetings: int(status.LiveAssignments)}
	for _, r := range c.cluster.Replicas() {
		heap, err := heapAfterGC(ctx, r)
		if err != nil {
			return census{}, err
		}
		counted.Heap = append(counted.Heap, heap)
	}
	return counted, nil
}

// joins measures joins of new meetings.
func (c *conclave) joins(ctx context.Context, run string) (samples []*measure.Sample, err error) {
	for _, callers := range scaleCallers {
		name := fmt.Sprintf("%s-%d", run, callers)
		sample, err := unaryCalls(func(ctx context.Context, callers, caller, n int, run string) error {
			seq := seq(callers, caller, n)
			return calls.Assign(ctx, c.all.Conn(callers, caller, n), meetingID(run, seq), c.Region(seq), true)
		})(ctx, c.plan(callers), name)
		if err != nil {
			return nil, fmt.Errorf("joins of %d callers: %w", callers, err)
		}
		fmt.Fprintf(c.out, "joins, %s, %d callers: %.0f/s, p50 %v\n", run, callers, sample.PerSecond, sample.Latency.P50)
		samples = append(samples, sample)
	}
	return samples, nil
}

const (
	// loadAttempts bounds the retries of one meeting.
	loadAttempts = 20
	saySoEvery   = 10 * time.Second
)

// load joins new meetings, as fast as it goes, until there are as many as wanted.
func (s *scaleReport) load(ctx context.Context, c *conclave) error {
	leader, _, err := c.leadership(ctx)
	if err != nil {
		return err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return fmt.Errorf("count the live meetings: %w", err)
	}
	missing := int64(s.Wanted) - int64(status.LiveAssignments)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, retries atomic.Int64
	began := time.Now()
	var loading sync.WaitGroup
	for caller := range s.Loading {
		loading.Go(func() {
			conn := c.all.Conn(s.Loading, caller, 0)
			for ctx.Err() == nil {
				seq := next.Add(1) - 1
				if seq >= missing {
					return
				}
				tried, err := assignAtLast(ctx, conn, meetingID("load", int(seq)), c.Region(int(seq)))
				retries.Add(int64(tried - 1))
				if err != nil {
					cancel(fmt.Errorf("load meeting %d: %w", seq, err))
				}
			}
		})
	}
	say := func() {
		fmt.Fprintf(c.out, "%.0f s: %d of %d meetings\n", time.Since(began).Seconds(), min(next.Load(), missing), missing)
	}
	untilDone(&loading, say)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.Loaded, s.LoadTime, s.LoadRetries = int(max(missing, 0)), time.Since(began), int(retries.Load())
	return nil
}

// untilDone waits, and calls say now and then.
func untilDone(all *sync.WaitGroup, say func()) {
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	tick := time.NewTicker(saySoEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			say()
		case <-done:
			return
		}
	}
}

// assignAtLast joins a meeting, and tries again when that fails. It returns how often it tried.
func assignAtLast(ctx context.Context, conn grpc.ClientConnInterface, id, region string) (tried int, err error) {
	client := conclavev1.NewAssignmentServiceClient(conn)
	for tried = 1; ; tried++ {
		callCtx, cancel := context.WithTimeout(ctx, calls.Timeout)
		_, err = client.AssignMeeting(callCtx, &conclavev1.AssignMeetingRequest{MeetingId: id, Region: region})
		cancel()
		if err == nil || tried == loadAttempts {
			return tried, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return tried, context.Cause(ctx)
		}
	}
}

// restartOne kills a follower with SIGKILL, starts it again, and waits until it is ready.
func (c *conclave) restartOne(ctx context.Context) (id string, readyAfter time.Duration, err error) {
	leader, _, err := c.leadership(ctx)
	if err != nil {
		return "", 0, err
	}
	for _, r := range c.cluster.Replicas() {
		if r == leader {
			continue
		}
		if err := r.Kill(); err != nil {
			return "", 0, err
		}
		if err := r.Start(); err != nil {
			return "", 0, err
		}
		readyAfter, err = untilReady(ctx, r)
		return r.ID, readyAfter, err
	}
	return "", 0, errors.New("there is no follower to restart")
}
