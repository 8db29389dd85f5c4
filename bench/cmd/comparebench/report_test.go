package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

func exampleComparison(o *options) *comparison {
	o.root, o.scenario, o.rounds, o.conns, o.replicas = ".", "compare", 2, 8, 3
	return newComparison(&bencher{options: o, facts: &machine.Facts{CPU: "test processor", Cores: 2}}, &results{
		samples: exampleSamples(), skipped: map[string]string{sysPostgres: "PostgreSQL is not installed"},
		notes: []string{"round 1, conclave: 2 elections"},
	})
}

func TestComparisonSaysEverything(t *testing.T) {
	c := exampleComparison(&options{reportBy: unary, behind: behindAll})
	c.Rows[0].Median.CPU = &measure.CPU{System: 26 * time.Microsecond, Load: 24 * time.Microsecond}
	got := c.markdown("plot.svg")
	for _, must := range []string{
		"test processor, 2 cores", "Median of 2 rounds", "**postgres was skipped**: PostgreSQL is not installed.",
		"round 1, conclave: 2 elections", "![calls a second](plot.svg)",
		"| report, 512 callers ÷ echo | ≥ 0.50 | 0.25 | 0.25–0.50 | 0.90 | missed |",
		"| report | 512 | conclave | 10000 | 10000–30000 | 1.00 |",
		"by a call of its own", "| 26 + 24 | 0 |", "| – | 0 |",
	} {
		if !strings.Contains(got, must) {
			t.Errorf("the report does not say %q:\n%s", must, got)
		}
	}
	if echo, etcd := strings.Index(got, "| echo | 512"), strings.Index(got, "| report | 512 | etcd"); echo > etcd {
		t.Error("the ceiling does not come first")
	}
}

func TestOpenLoopHasNoBars(t *testing.T) {
	c := exampleComparison(&options{rate: 100})
	if c.Bars != nil || !strings.Contains(c.markdown("plot.svg"), "Open loop of 100 calls") || !strings.HasSuffix(c.name(), "-rate-100") {
		t.Errorf("an open loop is reported as %s with %d bars", c.name(), len(c.Bars))
	}
}

func TestMissedBarIsNoFailureButFailedCallsAre(t *testing.T) {
	c := exampleComparison(new(options))
	if err := c.verdict(); err != nil {
		t.Errorf("verdict is %v, though no call failed", err)
	}
	c.Rows[0].Runs[0].Failures = map[string]int64{"OVERLOADED": 1000}
	if err := c.verdict(); err == nil || !strings.Contains(err.Error(), "1000 OVERLOADED") {
		t.Errorf("verdict is %v, though calls failed", err)
	}
}

func TestComparisonCanBeReadAgain(t *testing.T) {
	text, err := json.Marshal(exampleComparison(new(options)))
	if err != nil {
		t.Fatal(err)
	}
	var again comparison
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if len(again.Rows) != len(exampleSamples()) || again.Machine.Cores != 2 || *again.Bars[0].Figure != 0.25 || again.Rows[0].Median == nil {
		t.Errorf("read again: %+v", again)
	}
}

func TestChartHasAPanelForEachNumberOfCallers(t *testing.T) {
	svg := string(exampleComparison(new(options)).chart())
	last := -1
	for _, title := range []string{"callers: 1<", "callers: 64<", "callers: 512<", "streams: 24<"} {
		at := strings.Index(svg, title)
		if at < 0 || at < last {
			t.Errorf("%q is not where it should be", title)
		}
		last = at
	}
}

func TestFleetReportSaysWhatWasLost(t *testing.T) {
	f := &fleetReport{
		heading: heading{Machine: new(machine.Facts)}, Fleet: nodes.Size{Regions: 1, MediaHandlers: 10, Controllers: 1}, ReportBy: stream,
		Reports: &measure.Sample{Operations: 1000, Unsent: 3, Failures: map[string]int64{"NO_LEADER": 2}}, Joins: &measure.Sample{Operations: 10}, Stale: 4,
	}
	got := f.markdown("")
	for _, must := range []string{"5 reports were not acknowledged.", "unhealthy at the end: 4.", "2 NO_LEADER, 3 UNSENT"} {
		if !strings.Contains(got, must) {
			t.Errorf("the report does not say %q:\n%s", must, got)
		}
	}
	if err := f.verdict(); err == nil || strings.Contains(err.Error(), "joins") {
		t.Errorf("verdict is %v, want one on reports", err)
	}
}

func TestScaleReportDividesWhatTheHeapGrewBy(t *testing.T) {
	sample := &measure.Sample{Operations: 10, PerSecond: 10, Latency: measure.Latency{P50: time.Millisecond}}
	s := &scaleReport{
		heading: heading{Machine: new(machine.Facts)},
		Few:     census{Meetings: 1000, Heap: []float64{50e6, 40e6}}, All: census{Meetings: 101_000, Heap: []float64{90e6, 85e6}},
		FewJoins: []*measure.Sample{sample, sample}, AllJoins: []*measure.Sample{sample, sample},
		Restarted: "gc-2", ReadyAfter: 2500 * time.Millisecond,
	}
	got := s.markdown("")
	for _, must := range []string{"90 MB, 85 MB", "each of 100000 more meetings: 400, 450 bytes", "gc-2, a follower", "ready after 2.5 s", "| 101000 meetings | 64 |"} {
		if !strings.Contains(got, must) {
			t.Errorf("the report does not say %q:\n%s", must, got)
		}
	}
	if err := s.verdict(); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreSummed(t *testing.T) {
	const text = `# HELP gc_x things
# TYPE gc_x gauge
gc_x{health="healthy",region="a"} 7
gc_x{health="unhealthy",region="a"} 2
gc_x{health="unhealthy",region="b"} 3
gc_x_total 99
go_bytes 1.5e+06
`
	for _, c := range []struct {
		name, label string
		want        float64
	}{{"gc_x", `health="unhealthy"`, 5}, {"gc_x", `health="draining"`, 0}, {"go_bytes", "", 1.5e6}} {
		if got, err := sumMetric(text, c.name, c.label); err != nil || got != c.want {
			t.Errorf("%s{%s} is %v (%v), want %v", c.name, c.label, got, err, c.want)
		}
	}
	if _, err := sumMetric(text, "gc_y", ""); err == nil {
		t.Error("a metric that is not there was read")
	}
}
