package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/figures"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

// fleetReport is how a cluster carries a fleet that reports, and joins, for a while.
type fleetReport struct {
	heading
	Fleet          nodes.Size      `json:"fleet"`
	ReportBy       string          `json:"reports_by"`
	JoinsPerSecond float64         `json:"joins_per_second"`
	Time           time.Duration   `json:"time_ns"`
	Reports        *measure.Sample `json:"reports"`
	Joins          *measure.Sample `json:"joins"`
	// Stale is how many media handlers the leader held to be unhealthy at the end.
	Stale int      `json:"stale_media_handlers"`
	Notes []string `json:"notes,omitempty"`
}

// runFleet has every media handler report each interval, while meetings are joined, both in an open
// loop: neither waits for the cluster.
func (b *bencher) runFleet(ctx context.Context) (report, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	c, err := b.runConclave(ctx, filepath.Join(b.work, "cluster"))
	if err != nil {
		return nil, err
	}
	f := &fleetReport{heading: b.heading(), Fleet: c.Size, ReportBy: b.reportBy, JoinsPerSecond: b.joins, Time: b.fleetTime}
	fmt.Fprintf(b.out, "%v are registered; reports and joins for %v\n", c.Size, b.fleetTime)
	if err := errors.Join(f.measure(ctx, c), c.stop()); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *fleetReport) measure(ctx context.Context, c *conclave) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		// Everybody has reported once when the time begins that is measured.
		f.Reports, err = c.reportAll(groupCtx, &failures{reason: calls.Reason}, reportInterval, f.Time)
		return err
	})
	group.Go(func() (err error) {
		// Enough to keep the rate while each join takes a second.
		p := measure.Plan{Callers: max(64, int(f.JoinsPerSecond)), WarmUp: reportInterval, Time: f.Time, Rate: f.JoinsPerSecond,
			CallTimeout: calls.Timeout, Reason: calls.Reason}
		f.Joins, err = measure.Run(groupCtx, p, inTurn(func(ctx context.Context, caller, n, seq int) error {
			return calls.Assign(ctx, c.all.Conn(p.Callers, caller, n), meetingID("join", seq), c.Region(seq), true)
		}))
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	leader, _, err := c.leadership(ctx)
	if err != nil {
		return err
	}
	stale, err := metric(ctx, leader, "gc_registered_media_handlers", `health="unhealthy"`)
	if err != nil {
		return err
	}
	f.Stale = int(stale)
	f.Notes, err = c.notes(ctx)
	return err
}

func (f *fleetReport) name() string {
	return fmt.Sprintf("fleet-%s-%s-%s", f.Date.Format(time.DateOnly), f.Commit, f.ReportBy)
}

func (f *fleetReport) markdown(string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A fleet around Conclave, %s, commit %s\n\n%s\n\n", f.Date.Format(time.DateOnly), f.Commit, f.Machine)
	fmt.Fprintf(&b, "3 replicas with default flags, the fleet and the load on this one machine: %v. Each media handler reports every %v %s, and %.0f new meetings a second are joined, for %v after %v of warm-up. "+
		"Open loop: nothing waits for the answers before, and percentiles count from when a call was due.\n\n",
		f.Fleet, reportInterval, reportsBy(f.ReportBy), f.JoinsPerSecond, f.Time, reportInterval)
	for _, note := range f.Notes {
		fmt.Fprintf(&b, "**Not as it should be**: %s.\n\n", note)
	}
	b.WriteString("| | answered | per second | p50 ms | p95 | p99 | max | failed |\n|---|--:|--:|--:|--:|--:|--:|---|\n")
	for _, line := range []struct {
		what string
		s    *measure.Sample
	}{{"reports", f.Reports}, {"joins", f.Joins}} {
		l := line.s.Latency
		fmt.Fprintf(&b, "| %s | %d | %.0f | %s | %s | %s | %s | %s |\n", line.what, line.s.Operations, line.s.PerSecond,
			figures.Millis(l.P50), figures.Millis(l.P95), figures.Millis(l.P99), figures.Millis(l.Max), series(line.s).Failures())
	}
	acknowledged := "Every report was acknowledged."
	if lost := f.Reports.Failed() + f.Reports.Unsent; lost > 0 {
		acknowledged = fmt.Sprintf("%d reports were not acknowledged.", lost)
	}
	fmt.Fprintf(&b, "\n%s Media handlers that the leader held to be unhealthy at the end: %d.\n", acknowledged, f.Stale)
	return b.String()
}

func series(s *measure.Sample) figures.Series { return figures.Of([]*measure.Sample{s}) }

func (f *fleetReport) chart() []byte { return nil }

func (f *fleetReport) verdict() error {
	return errors.Join(series(f.Reports).Check("reports"), series(f.Joins).Check("joins"))
}
