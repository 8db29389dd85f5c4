package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/bench/figures"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

const (
	// peakCallers is how many callers measure the capacity, in a closed loop.
	peakCallers = 512
	// openCallers hardly hold an open loop up: more calls than a cluster lets in.
	openCallers = 8192
	// overloadWarmUp is for queues to fill.
	overloadWarmUp = 3 * time.Second
)

var (
	overloadWorkloads = []string{wAssign, wReport}
	// overloads are the loads, in times the capacity.
	overloads = []float64{0.5, 1, 2}
)

// overloadReport is what a cluster does with more than it can.
type overloadReport struct {
	heading
	Fleet nodes.Size    `json:"fleet"`
	Rows  []overloadRow `json:"rows"`
	Notes []string      `json:"notes,omitempty"`
}

type overloadRow struct {
	Workload string `json:"workload"`
	// Times is the load in times the capacity; 0 for the closed loop that measures it.
	Times    float64         `json:"times_capacity,omitempty"`
	Offered  float64         `json:"offered_per_second,omitempty"`
	Capacity float64         `json:"capacity_per_second"`
	Sample   *measure.Sample `json:"sample"`
	// Stale is how many nodes the leader held to be unhealthy at the end.
	Stale int `json:"stale_nodes"`
}

// goodput is what was answered of the capacity.
func (r overloadRow) goodput() float64 { return r.Sample.PerSecond / r.Capacity }

func (b *bencher) runOverload(ctx context.Context) (report, error) {
	if err := b.build(ctx); err != nil {
		return nil, err
	}
	// All of the fleet reports meanwhile, each node for itself: what is refused to it counts.
	b.behind = behindConclave
	started, err := startConclave(b, ctx, filepath.Join(b.work, "cluster"))
	if err != nil {
		return nil, err
	}
	s := started.(conclaveSystem)
	o := &overloadReport{heading: b.heading(), Fleet: b.size()}
	err = o.measureAll(ctx, b, s)
	if err == nil {
		o.Notes, err = s.notes(ctx)
	}
	if err := errors.Join(err, s.stop()); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *overloadReport) measureAll(ctx context.Context, b *bencher, s conclaveSystem) error {
	for _, name := range overloadWorkloads {
		all := s.workloads()
		w := all[slices.IndexFunc(all, func(w workload) bool { return w.name == name && w.system == sysConclave })]
		plan := b.plan(peakCallers)
		plan.Rate = 0
		peak, err := w.measure(ctx, plan, "peak")
		if err != nil {
			return err
		}
		if peak.Operations == 0 {
			return fmt.Errorf("%s: nothing was answered", name)
		}
		if err := o.add(ctx, s, overloadRow{Workload: name, Capacity: peak.PerSecond, Sample: peak}); err != nil {
			return err
		}
		for _, times := range overloads {
			plan.Callers, plan.WarmUp, plan.Rate = openCallers, overloadWarmUp, times*peak.PerSecond
			sample, err := w.measure(ctx, plan, fmt.Sprintf("times-%g", times))
			if err != nil {
				return err
			}
			if err := o.add(ctx, s, overloadRow{Workload: name, Times: times, Offered: plan.Rate, Capacity: peak.PerSecond, Sample: sample}); err != nil {
				return err
			}
		}
	}
	return nil
}

// add completes a row by what the fleet looks like after it.
func (o *overloadReport) add(ctx context.Context, s conclaveSystem, r overloadRow) error {
	leader, _, err := s.leadership(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"gc_registered_media_handlers", "gc_registered_meeting_controllers"} {
		stale, err := metric(ctx, leader, name, `health="unhealthy"`)
		if err != nil {
			return err
		}
		r.Stale += int(stale)
	}
	o.Rows = append(o.Rows, r)
	fmt.Fprintf(s.out, "%-16s %3g times  %8.0f/s  p99 %v\n", r.Workload, r.Times, r.Sample.PerSecond, r.Sample.Latency.P99.Round(time.Millisecond))
	return nil
}

func (o *overloadReport) name() string {
	return fmt.Sprintf("overload-%s-%s", o.Date.Format(time.DateOnly), o.Commit)
}

func (o *overloadReport) markdown(string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conclave overloaded, %s, commit %s\n\n%s\n\n", o.Date.Format(time.DateOnly), o.Commit, o.Machine)
	fmt.Fprintf(&b, "3 replicas, the fleet and the load on this one machine: %v. The capacity is what %d callers get in a closed loop. "+
		"Then an open loop offers more and less than that: nothing waits for the answers before, and percentiles count from when a call was due. "+
		"The load takes its share of the two cores, for what is refused too. All the while the fleet reports, every node each %v, each media handler by a call of its own.\n\n",
		o.Fleet, peakCallers, reportInterval)
	for _, note := range o.Notes {
		fmt.Fprintf(&b, "**Not as it should be**: %s.\n\n", note)
	}
	b.WriteString("| workload | offered | per second | answered per second | of capacity | p50 ms | p95 | p99 | max | not answered | stale nodes |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|---|--:|\n")
	for _, r := range o.Rows {
		offered, rate := "as much as it takes", "–"
		if r.Times > 0 {
			offered, rate = fmt.Sprintf("%g × capacity", r.Times), fmt.Sprintf("%.0f", r.Offered)
		}
		l := r.Sample.Latency
		fmt.Fprintf(&b, "| %s | %s | %s | %.0f | %.0f %% | %s | %s | %s | %s | %s | %d |\n", r.Workload, offered, rate, r.Sample.PerSecond, 100*r.goodput(),
			figures.Millis(l.P50), figures.Millis(l.P95), figures.Millis(l.P99), figures.Millis(l.Max), series(r.Sample).Failures(), r.Stale)
	}
	return b.String()
}

func (o *overloadReport) chart() []byte { return nil }

// verdict is nil: that calls are refused is what is measured.
func (o *overloadReport) verdict() error { return nil }
