package sim

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// JoinStats are the figures of the joiners.
type JoinStats struct {
	Joins     int64 // acknowledged
	Created   int64 // of them, new assignments
	Ends      int64 // acknowledged
	GaveUp    int64 // joins without an answer in spite of all retries
	Errors    map[string]int64
	PerSecond float64
	// Latencies run from the first attempt to the answer, retries included.
	P50, P99, Max time.Duration
	// Gaps are the times from each kill to the answer of the first join that started after it.
	Gaps []time.Duration
	// OpenGaps are kills after which no join has succeeded yet.
	OpenGaps int
}

// joinStats collects them. It is safe for concurrent use.
type joinStats struct {
	mu       sync.Mutex
	stats    JoinStats
	latency  *hdrhistogram.Histogram // µs
	kills    []time.Time             // not yet followed by a successful join
	started  time.Time
	finished time.Time
}

// maxLatency is where the histogram saturates.
const maxLatency = 5 * time.Minute

func newJoinStats() *joinStats {
	return &joinStats{
		stats:   JoinStats{Errors: make(map[string]int64)},
		latency: hdrhistogram.New(1, maxLatency.Microseconds(), 3),
	}
}

func (s *joinStats) start(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started, s.finished = now, time.Time{}
}

func (s *joinStats) stop(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished = now
}

// joined records a join that began at began and whose answered attempt began at started.
func (s *joinStats) joined(began, started, acked time.Time, created bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Joins++
	if created {
		s.stats.Created++
	}
	taken := min(max(acked.Sub(began), time.Microsecond), maxLatency)
	// Within the bounds just applied it cannot fail.
	_ = s.latency.RecordValue(taken.Microseconds())
	s.kills = slices.DeleteFunc(s.kills, func(kill time.Time) bool {
		if started.Before(kill) {
			return false
		}
		s.stats.Gaps = append(s.stats.Gaps, acked.Sub(kill))
		return true
	})
}

func (s *joinStats) markKill(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills = append(s.kills, at)
}

func (s *joinStats) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Ends++
}

func (s *joinStats) gaveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.GaveUp++
}

func (s *joinStats) failed(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stats.Errors[reason]++
}

func (s *joinStats) snapshot(now time.Time) JoinStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.stats
	out.Errors = maps.Clone(s.stats.Errors)
	out.Gaps = slices.Clone(s.stats.Gaps)
	out.OpenGaps = len(s.kills)
	if !s.finished.IsZero() {
		now = s.finished
	}
	if elapsed := now.Sub(s.started).Seconds(); !s.started.IsZero() && elapsed > 0 {
		out.PerSecond = float64(out.Joins) / elapsed
	}
	micros := func(value int64) time.Duration { return time.Duration(value) * time.Microsecond }
	out.P50 = micros(s.latency.ValueAtQuantile(50))
	out.P99 = micros(s.latency.ValueAtQuantile(99))
	out.Max = micros(s.latency.Max())
	return out
}
