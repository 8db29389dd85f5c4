package figures

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/bench/measure"
)

// Tolerated is the share of calls that may fail: 0 to 1.
const Tolerated = 0.001

// Series is the samples of one measurement in all rounds.
type Series struct {
	// Median is the run in the middle; Runs are all, in their order.
	Median *measure.Sample   `json:"median"`
	Runs   []*measure.Sample `json:"runs"`
}

// Of makes a series of samples; there must be at least one.
func Of(samples []*measure.Sample) Series {
	return Series{Median: measure.Median(samples), Runs: samples}
}

// Spread is from the slowest to the fastest run, in calls a second.
func (s Series) Spread() string {
	least, most := s.Median.PerSecond, s.Median.PerSecond
	for _, run := range s.Runs {
		least, most = min(least, run.PerSecond), max(most, run.PerSecond)
	}
	return fmt.Sprintf("%.0f–%.0f", least, most)
}

// Failures are those of all runs, by reason.
func (s Series) Failures() string {
	total := make(map[string]int64)
	for _, run := range s.Runs {
		for reason, n := range run.Failures {
			total[reason] += n
		}
		if run.Unsent > 0 {
			total["UNSENT"] += run.Unsent
		}
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(total)) {
		parts = append(parts, fmt.Sprintf("%d %s", total[reason], reason))
	}
	return cmp.Or(strings.Join(parts, ", "), "0")
}

// Check is an error when more calls failed than are tolerated.
func (s Series) Check(name string) error {
	if share := measure.FailedShare(s.Runs); share > Tolerated {
		return fmt.Errorf("%s: %.2f %% of the calls failed (%s)", name, 100*share, s.Failures())
	}
	return nil
}

// Millis shows a time in milliseconds, without the unit.
func Millis(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}
