package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/bench/figures"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

// scaleReport is what many live meetings cost.
type scaleReport struct {
	heading
	Fleet    nodes.Size `json:"fleet"`
	ReportBy string     `json:"reports_by"`
	Wanted   int        `json:"meetings_wanted"`
	Loading  int        `json:"loading_callers"`

	// Few is before the meetings are loaded, All when they are live.
	Few census `json:"few"`
	All census `json:"all"`
	// Hosted is how many the controllers host by their own word, when All are live: no more, no less.
	Hosted int `json:"hosted_by_controllers"`
	// The joins are those of scaleCallers, in their order: on an empty cluster but for the meetings
	// that open its connections, and with all meetings.
	FewJoins []*measure.Sample `json:"few_joins"`
	AllJoins []*measure.Sample `json:"all_joins"`

	Loaded      int           `json:"loaded"`
	LoadTime    time.Duration `json:"load_time_ns"`
	LoadRetries int           `json:"load_retries"`

	Restarted  string        `json:"restarted"`
	ReadyAfter time.Duration `json:"ready_after_ns"`
	Notes      []string      `json:"notes,omitempty"`
}

// census is what a cluster holds, and what it takes.
type census struct {
	Meetings int `json:"live_meetings"`
	// Heap is go_memstats_heap_alloc_bytes of each replica, after a garbage collection.
	Heap []float64 `json:"heap_alloc_bytes"`
}

// heapPerMeeting is what each replica's heap grew by, in bytes a meeting.
func (s *scaleReport) heapPerMeeting() []float64 {
	var all []float64
	more := s.All.Meetings - s.Few.Meetings
	for i := range min(len(s.Few.Heap), len(s.All.Heap)) {
		if more > 0 {
			all = append(all, (s.All.Heap[i]-s.Few.Heap[i])/float64(more))
		}
	}
	return all
}

func (s *scaleReport) name() string {
	return fmt.Sprintf("scale-%s-%s-%d", s.Date.Format(time.DateOnly), s.Commit, s.Wanted)
}

func (s *scaleReport) markdown(string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conclave with %d live meetings, %s, commit %s\n\n%s\n\n", s.All.Meetings, s.Date.Format(time.DateOnly), s.Commit, s.Machine)
	fmt.Fprintf(&b, "3 replicas, the fleet and the load on this one machine: %v. Each media handler reports every %v %s all the while, and the controllers tell what they host.\n\n",
		s.Fleet, reportInterval, reportsBy(s.ReportBy))
	for _, note := range s.Notes {
		fmt.Fprintf(&b, "**Not as it should be**: %s.\n\n", note)
	}
	if seconds := s.LoadTime.Seconds(); seconds > 0 {
		fmt.Fprintf(&b, "- %d meetings were joined by %d callers in %.0f s: %.0f a second; %d retries.\n", s.Loaded, s.Loading, seconds, float64(s.Loaded)/seconds, s.LoadRetries)
	}
	fmt.Fprintf(&b, "- The cluster says that %d meetings are live; the controllers host %d.\n", s.All.Meetings, s.Hosted)
	var heaps, each []string
	for _, heap := range s.All.Heap {
		heaps = append(heaps, fmt.Sprintf("%.0f MB", heap/1e6))
	}
	for _, bytes := range s.heapPerMeeting() {
		each = append(each, fmt.Sprintf("%.0f", bytes))
	}
	fmt.Fprintf(&b, "- Go heap of each replica (go_memstats_heap_alloc_bytes after a garbage collection): %s; what it grew by for each of %d more meetings: %s bytes.\n",
		strings.Join(heaps, ", "), s.All.Meetings-s.Few.Meetings, strings.Join(each, ", "))
	fmt.Fprintf(&b, "- %s, a follower, was killed with SIGKILL and started again: ready after %.1f s.\n\n", s.Restarted, s.ReadyAfter.Seconds())
	b.WriteString(s.joinTable())
	return b.String()
}

func (s *scaleReport) joinTable() string {
	var b strings.Builder
	b.WriteString("| joins of new meetings | callers | per second | p50 ms | p95 | p99 | max | failed |\n|---|--:|--:|--:|--:|--:|--:|---|\n")
	for _, state := range []struct {
		name string
		all  []*measure.Sample
	}{{fmt.Sprintf("%d meetings or a few more", existingMeetings), s.FewJoins}, {fmt.Sprintf("%d meetings", s.All.Meetings), s.AllJoins}} {
		for i, sample := range state.all {
			l := sample.Latency
			fmt.Fprintf(&b, "| %s | %d | %.0f | %s | %s | %s | %s | %s |\n", state.name, scaleCallers[i], sample.PerSecond,
				figures.Millis(l.P50), figures.Millis(l.P95), figures.Millis(l.P99), figures.Millis(l.Max), series(sample).Failures())
		}
	}
	return b.String()
}

func (s *scaleReport) chart() []byte { return nil }

func (s *scaleReport) verdict() error {
	var errs []error
	for _, sample := range append(s.FewJoins[:len(s.FewJoins):len(s.FewJoins)], s.AllJoins...) {
		errs = append(errs, series(sample).Check("joins"))
	}
	return errors.Join(errs...)
}
