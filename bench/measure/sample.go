package measure

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Sample is what was measured in one run.
type Sample struct {
	// Operations are the calls that began within the time measured and succeeded, however late.
	Operations int64 `json:"operations"`
	// PerSecond counts the successes that came within the time measured.
	PerSecond float64 `json:"per_second"`
	// Latency is that of Operations.
	Latency Latency `json:"latency"`
	// Failures counts the calls that began within the time measured and failed, by reason.
	Failures map[string]int64 `json:"failures,omitempty"`
	// CPU is the processor time of a call; nil when it was not measured.
	CPU *CPU `json:"cpu_per_call,omitempty"`
	// Unsent are calls that were due and never made, because all callers were waiting.
	Unsent int64 `json:"unsent,omitempty"`
}

// CPU is the processor time that one call takes.
type CPU struct {
	System time.Duration `json:"system_ns"`
	Load   time.Duration `json:"load_ns"` // who makes the calls
}

// Latency is how long calls took: of 100 calls, 99 took at most P99.
type Latency struct {
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P95  time.Duration `json:"p95_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Failed is how many calls failed.
func (s *Sample) Failed() int64 {
	var failed int64
	for _, n := range s.Failures {
		failed += n
	}
	return failed
}

// FailedShare is the share of all calls, of all samples, that failed or were never made: 0 to 1.
// A run that made no call has failed altogether.
func FailedShare(samples []*Sample) float64 {
	var failed, all int64
	for _, s := range samples {
		lost := s.Failed() + s.Unsent
		failed += lost
		all += lost + s.Operations
	}
	if all == 0 {
		return 1
	}
	return float64(failed) / float64(all)
}

// Median returns the run whose rate is in the middle; of an even number, the slower of the two.
// There must be at least one.
func Median(samples []*Sample) *Sample {
	sorted := slices.SortedFunc(slices.Values(samples), func(a, b *Sample) int {
		switch {
		case a.PerSecond < b.PerSecond:
			return -1
		case a.PerSecond > b.PerSecond:
			return 1
		}
		return 0
	})
	return sorted[(len(sorted)-1)/2]
}

// window is the time that is measured; to is not in it.
type window struct{ from, to time.Time }

// tally collects what one caller sees.
type tally struct {
	window    window
	latencies *hdrhistogram.Histogram // microseconds
	inTime    int64
	failures  map[string]int64
}

// longest is the longest latency that is told apart from longer ones.
const longest = time.Minute

func newTally() *tally {
	return &tally{
		latencies: hdrhistogram.New(1, longest.Microseconds(), 3),
		failures:  make(map[string]int64),
	}
}

// done notes a success. The rate counts what ends within the window, so that as much is cut off
// at its end as comes in at its beginning; latencies are those of what began in it, so that none
// is cut off.
func (t *tally) done(began, ended time.Time) {
	if !ended.Before(t.window.from) && ended.Before(t.window.to) {
		t.inTime++
	}
	if began.Before(t.window.from) {
		return
	}
	took := min(ended.Sub(began), longest)
	_ = t.latencies.RecordValue(took.Microseconds()) // fails only above longest
}

func (t *tally) failed(began time.Time, reason string) {
	if !began.Before(t.window.from) {
		t.failures[reason]++
	}
}

func (t *tally) merge(other *tally) {
	t.latencies.Merge(other.latencies)
	t.inTime += other.inTime
	for reason, n := range other.failures {
		t.failures[reason] += n
	}
}

func (t *tally) sample(over time.Duration) *Sample {
	at := func(percent float64) time.Duration {
		return time.Duration(t.latencies.ValueAtQuantile(percent)) * time.Microsecond
	}
	return &Sample{
		Operations: t.latencies.TotalCount(),
		PerSecond:  float64(t.inTime) / over.Seconds(),
		Latency: Latency{
			P50: at(50), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9),
			Max: time.Duration(t.latencies.Max()) * time.Microsecond,
		},
		Failures: t.failures,
	}
}
