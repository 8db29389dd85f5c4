package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/product"
)

// key names a row of the report.
type key struct {
	system, workload string
	callers          int
}

// results are all samples of all rounds; the ith sample of a row is of round i.
type results struct {
	samples map[key][]*measure.Sample
	// skipped says why a system was not measured.
	skipped map[string]string
	// notes are what happened in single rounds and should not have.
	notes []string
}

// runCompare runs all rounds. A round is each system once, on empty disks and alone on the machine, and
// every workload on it once. So no round sees what another left behind, and what the machine does
// meanwhile falls on all systems alike.
func (b *bencher) runCompare(ctx context.Context) (report, error) {
	res := &results{samples: make(map[key][]*measure.Sample), skipped: make(map[string]string)}
	if slices.Contains(b.systems, sysConclave) {
		if err := b.build(ctx); err != nil {
			return nil, err
		}
	}
	for round := range b.rounds {
		for _, name := range order(b.systems, round) {
			if res.skipped[name] != "" {
				continue
			}
			if err := b.round(ctx, res, round, name); err != nil {
				return nil, fmt.Errorf("round %d with %s: %w", round+1, name, err)
			}
		}
	}
	return newComparison(b, res), nil
}

func (b *bencher) build(ctx context.Context) (err error) {
	b.binary, err = product.Build(ctx, b.root, b.work)
	return err
}

// order lets each system be the first in turn.
func order(systems []string, round int) []string {
	first := round % len(systems)
	return append(slices.Clone(systems[first:]), systems[:first]...)
}

// round measures one system once.
func (b *bencher) round(ctx context.Context, res *results, round int, name string) (err error) {
	dir := filepath.Join(b.work, fmt.Sprintf("%s-%d", name, round+1))
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	i := slices.IndexFunc(systems, func(k kind) bool { return k.name == name })
	s, err := systems[i].start(b, ctx, dir)
	if no, ok := errors.AsType[skipped](err); ok {
		res.skipped[name] = no.Error()
		fmt.Fprintf(b.out, "%s is skipped: %v\n", name, no)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := b.measureAll(ctx, res, round, s.workloads()); err != nil {
		return err
	}
	notes, err := s.notes(ctx)
	for _, note := range notes {
		res.notes = append(res.notes, fmt.Sprintf("round %d, %s: %s", round+1, name, note))
	}
	return err
}

func (b *bencher) measureAll(ctx context.Context, res *results, round int, all []workload) error {
	for i, w := range all {
		if !b.wanted(w) {
			continue
		}
		callers := w.callers
		if callers == nil {
			callers = b.callers
		}
		for _, n := range callers {
			k := key{w.system, w.name, n}
			used := machine.MeasureCPU(b.warmUp, b.time)
			sample, err := w.measure(ctx, b.plan(n), fmt.Sprintf("run-%d-%d", i, n))
			if err != nil {
				return fmt.Errorf("%s, %d callers: %w", w.name, n, err)
			}
			if sample.CPU, err = b.perCall(used, sample); err != nil {
				return err
			}
			res.samples[k] = append(res.samples[k], sample)
			b.say(round, k, sample)
		}
	}
	return nil
}

// perCall is the processor time of a call, nil where it cannot be measured.
func (b *bencher) perCall(used func() (machine.CPU, error), s *measure.Sample) (*measure.CPU, error) {
	all, err := used()
	calls := s.PerSecond * b.time.Seconds()
	if err != nil || calls == 0 || all == (machine.CPU{}) {
		return nil, err
	}
	return &measure.CPU{
		System: time.Duration(float64(all.Children) / calls),
		Load:   time.Duration(float64(all.Own) / calls),
	}, nil
}

func (b *bencher) say(round int, k key, s *measure.Sample) {
	fmt.Fprintf(b.out, "round %d  %-23s %-16s %3d callers  %8.0f/s  p50 %-9v p99 %-9v failed %d\n", round+1, k.system, k.workload,
		k.callers, s.PerSecond, s.Latency.P50.Round(time.Microsecond), s.Latency.P99.Round(time.Microsecond), s.Failed()+s.Unsent)
}

// rowOrder puts what serves the same purpose side by side.
func rowOrder(a, b key) int {
	purposes := append([]string{wEcho}, workloadNames()...)
	all := append(systemNames(), sysLeader)
	return cmp.Or(
		cmp.Compare(slices.Index(purposes, a.workload), slices.Index(purposes, b.workload)),
		cmp.Compare(a.callers, b.callers),
		cmp.Compare(slices.Index(all, a.system), slices.Index(all, b.system)))
}
