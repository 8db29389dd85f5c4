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
	"github.com/conclave-rtc/conclave/bench/product"
)

// report is what is written: one row for each system and fault.
type report struct {
	Date     time.Time      `json:"date"`
	Commit   string         `json:"commit"`
	Machine  *machine.Facts `json:"machine"`
	Settings settings       `json:"settings"`
	Systems  []described    `json:"systems"`
	// Incomplete says why not everything was measured; empty when it was.
	Incomplete string `json:"incomplete,omitempty"`
	Rows       []*row `json:"rows"`
}

type settings struct {
	Pace        time.Duration `json:"pace_ns"`
	Lasts       time.Duration `json:"stops_and_partitions_last_ns"`
	CallTimeout time.Duration `json:"call_timeout_ns"`
}

type described struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

func newReport(o *options, f *machine.Facts) *report {
	return &report{
		Date: time.Now(), Commit: product.Commit(o.root), Machine: f,
		Settings: settings{Pace: o.pace, Lasts: o.lasts, CallTimeout: callTimeout},
	}
}

// table is the report for people, in Markdown.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Failover benchmark, %s, commit %s\n\n%s\n\n%s\n\n", r.Date.Format(time.DateOnly), r.Commit, r.Machine, r.Settings)
	for _, s := range r.Systems {
		fmt.Fprintf(&b, "- `%s`: %s.\n", s.Name, s.About)
	}
	if r.Incomplete != "" {
		fmt.Fprintf(&b, "\n**Not everything was measured**: %s\n", r.Incomplete)
	}
	b.WriteString("\n| fault of the leader | system | faults | p50 ms | p90 | p99 | max | mean | longer than the fault | acknowledged writes | lost |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, w := range r.Rows {
		gaps := w.sorted()
		fmt.Fprintf(&b, "| %s | %s | %d | %s | %s | %s | %s | %s | %s | %d | %s |\n", w.Fault, w.System, len(gaps),
			figures.Millis(quantile(gaps, 50)), figures.Millis(quantile(gaps, 90)), figures.Millis(quantile(gaps, 99)), figures.Millis(quantile(gaps, 100)), figures.Millis(mean(gaps)),
			w.outlasted(), w.Acknowledged, w.lost())
	}
	return b.String()
}

// String says how it was measured.
func (s settings) String() string {
	return fmt.Sprintf("The gap is the time between the last acknowledged write before the fault took hold and the first acknowledged write that was "+
		"sent after, over both surviving replicas together. A write is sent through each of them every %v, however slow the answers are, and never "+
		"again when it fails; its timeout is %v. A killed leader is started again once writes go on; a stop and a partition last %v. The next fault "+
		"comes when every replica follows and has applied everything. Each row has a fresh cluster of three processes, on this one machine with the "+
		"clients; for partitions alone there are proxies between the replicas. With fewer than 100 faults, p99 is the worst. Every "+
		"acknowledged write is read again at the end.", s.Pace, s.CallTimeout, s.Lasts)
}

// String is one line for who waits.
func (r *row) String() string {
	gaps := r.sorted()
	return fmt.Sprintf("%-9s  %-12s  %3d faults  p50 %-7v p90 %-7v max %-7v  %d acknowledged, lost: %s, failed: %s", r.Fault, r.System, len(gaps),
		quantile(gaps, 50).Round(time.Millisecond), quantile(gaps, 90).Round(time.Millisecond), quantile(gaps, 100).Round(time.Millisecond),
		r.Acknowledged, r.lost(), r.failures())
}

func (r *row) failures() string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(r.Failed)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.Failed[reason], reason))
	}
	return cmp.Or(strings.Join(parts, ", "), "0")
}

func (r *row) lost() string {
	if !r.LookedForLost {
		return "?"
	}
	return fmt.Sprint(len(r.Lost))
}

func (r *row) outlasted() string {
	if r.Fault == sigkill {
		return "–" // it lasts until writes go on
	}
	n := 0
	for _, o := range r.Outcomes {
		if o.Outlasted {
			n++
		}
	}
	return fmt.Sprint(n)
}

func (r *row) sorted() []time.Duration {
	var gaps []time.Duration
	for _, o := range r.Outcomes {
		gaps = append(gaps, o.Gap)
	}
	slices.Sort(gaps)
	return gaps
}

// quantile is the smallest gap that percent of them do not exceed; there must be one.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

func mean(gaps []time.Duration) time.Duration {
	var sum time.Duration
	for _, g := range gaps {
		sum += g
	}
	return sum / time.Duration(len(gaps))
}

// write writes the Markdown and the JSON, and returns their path without the ending.
func (r *report) write(dir string) (string, error) {
	path := filepath.Join(dir, r.Date.Format(time.DateOnly)+"-"+r.Commit+"-failover")
	return path, figures.Write(path, r.table(), r)
}

// verdict names the rows in which acknowledged writes were lost.
func (r *report) verdict() error {
	var errs []error
	for _, w := range r.Rows {
		if len(w.Lost) > 0 {
			errs = append(errs, fmt.Errorf("%s, %s: %d of %d acknowledged writes were lost", w.System, w.Fault, len(w.Lost), w.Acknowledged))
		}
	}
	return errors.Join(errs...)
}
