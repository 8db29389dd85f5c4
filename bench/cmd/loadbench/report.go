package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/bench/figures"
	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/product"
)

// report is what is written: one row for each store, workload and number of callers.
type report struct {
	Date      time.Time      `json:"date"`
	Commit    string         `json:"commit"`
	Machine   *machine.Facts `json:"machine"`
	Settings  settings       `json:"settings"`
	Elections []string       `json:"elections,omitempty"`
	Rows      []row          `json:"rows"`
}

type settings struct {
	Replicas          int           `json:"replicas"`
	ConnsPerReplica   int           `json:"connections_per_replica"`
	MediaHandlers     int           `json:"media_handlers"`
	Controllers       int           `json:"meeting_controllers"`
	Rounds            int           `json:"rounds"`
	Time              time.Duration `json:"time_ns"`
	WarmUp            time.Duration `json:"warm_up_ns"`
	OpenLoopPerSecond float64       `json:"open_loop_per_second,omitempty"`
	Profiled          bool          `json:"profiled,omitempty"`
}

type row struct {
	Store    string `json:"store,omitempty"`
	Workload string `json:"workload"`
	Callers  int    `json:"callers"`
	figures.Series
	// OfEcho is the rate as a share of the echo server's with as many callers; 0 in an open loop,
	// whose rate says nothing.
	OfEcho float64 `json:"of_echo,omitempty"`
}

func newReport(o *options, f *machine.Facts, res *results) *report {
	r := &report{
		Date: time.Now(), Commit: product.Commit(o.root), Machine: f, Elections: res.elections,
		Settings: settings{
			Replicas: 3, ConnsPerReplica: o.conns, MediaHandlers: mediaHandlers, Controllers: controllers,
			Rounds: o.rounds, Time: o.time, WarmUp: o.warmUp, OpenLoopPerSecond: o.rate, Profiled: o.profiles != "",
		},
	}
	for _, k := range slices.SortedFunc(maps.Keys(res.samples), reportOrder) {
		w := row{Store: k.store, Workload: k.workload, Callers: k.callers, Series: figures.Of(res.samples[k])}
		ceiling := res.samples[key{workload: echoWorkload, callers: k.callers}]
		if o.rate == 0 && k.workload != echoWorkload && len(ceiling) > 0 {
			if of := measure.Median(ceiling).PerSecond; of > 0 {
				w.OfEcho = w.Median.PerSecond / of
			}
		}
		r.Rows = append(r.Rows, w)
	}
	return r
}

// reportOrder puts the echo server first, and the stores side by side.
func reportOrder(a, b key) int {
	place := func(k key) int {
		return slices.IndexFunc(workloads, func(w workload) bool { return w.name == k.workload })
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.callers, b.callers), strings.Compare(a.store, b.store))
}

// table is the report for people, in Markdown.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Load benchmark, %s, commit %s\n\n%s\n\n%s\n\n", r.Date.Format(time.DateOnly), r.Commit, r.Machine, r.Settings)
	for _, e := range r.Elections {
		fmt.Fprintf(&b, "**The leader changed while it was measured** (%s).\n\n", e)
	}
	b.WriteString("| workload | callers | store | ops/s | slowest–fastest run | of echo | p50 ms | p90 | p99 | p99.9 | max | failed |\n")
	b.WriteString("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, w := range r.Rows {
		m := w.Median
		fmt.Fprintf(&b, "| %s | %d | %s | %.0f | %s | %s | %s | %s | %s | %s | %s | %s |\n", w.Workload, w.Callers, cmp.Or(w.Store, "–"),
			m.PerSecond, w.Spread(), w.ofEcho(), figures.Millis(m.Latency.P50), figures.Millis(m.Latency.P90), figures.Millis(m.Latency.P99),
			figures.Millis(m.Latency.P999), figures.Millis(m.Latency.Max), w.Failures())
	}
	return b.String()
}

// String says how it was measured.
func (s settings) String() string {
	loop := "Closed loop."
	if s.OpenLoopPerSecond > 0 {
		loop = fmt.Sprintf("Open loop of %.0f calls a second over all replicas, timed from when each was due; callers is the most that may be under way.", s.OpenLoopPerSecond)
	}
	profiled := ""
	if s.Profiled {
		profiled = " CPU profiles of the leader were taken in the first round."
	}
	return fmt.Sprintf("%d replicas, the load and %d meeting controllers on this one machine; %d media handlers; %d connections to each replica. %s "+
		"Median of %d rounds of %v after %v of warm-up; each round has a fresh cluster. Echo is one gRPC server of its own process with as many connections and callers.%s",
		s.Replicas, s.Controllers, s.MediaHandlers, s.ConnsPerReplica, loop, s.Rounds, s.Time, s.WarmUp, profiled)
}

func (w row) ofEcho() string {
	if w.OfEcho == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", w.OfEcho)
}

// write writes the Markdown and the JSON, and returns their path without the ending.
func (r *report) write(dir string) (string, error) {
	path := filepath.Join(dir, r.Date.Format(time.DateOnly)+"-"+r.Commit)
	if r.Settings.OpenLoopPerSecond > 0 {
		path += fmt.Sprintf("-rate-%.0f", r.Settings.OpenLoopPerSecond)
	}
	return path, figures.Write(path, r.table(), r)
}

// verdict names the rows in which too many calls failed.
func (r *report) verdict() error {
	var errs []error
	for _, w := range r.Rows {
		errs = append(errs, w.Check(fmt.Sprintf("%s, %d callers, %s", w.Workload, w.Callers, cmp.Or(w.Store, "no store"))))
	}
	return errors.Join(errs...)
}
