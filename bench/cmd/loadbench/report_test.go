package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/measure"
)

func sampleOf(perSecond float64) *measure.Sample {
	return &measure.Sample{
		Operations: int64(perSecond), PerSecond: perSecond,
		Latency: measure.Latency{P50: 1500 * time.Microsecond, P90: 2 * time.Millisecond, P99: 12 * time.Millisecond,
			P999: 50 * time.Millisecond, Max: time.Second},
	}
}

func exampleReport(o options) *report {
	failing := sampleOf(9_999)
	failing.Failures = map[string]int64{"OVERLOADED": 20, "NO_LEADER": 3}
	o.root = "."
	return newReport(&o, &machine.Facts{CPU: "test processor", Cores: 2}, &results{
		samples: map[key][]*measure.Sample{
			{"wal", "report", 64}:                 {sampleOf(12_000), sampleOf(10_000), sampleOf(20_000)},
			{"bolt", "report", 64}:                {failing},
			{"bolt", "assign-new", 1}:             {sampleOf(500)},
			{"bolt", "report", 1}:                 {sampleOf(600)},
			{workload: echoWorkload, callers: 64}: {sampleOf(24_000), sampleOf(90_000), sampleOf(1_000)},
		},
		elections: []string{"bolt, round 1: 2 elections"},
	})
}

func TestTable(t *testing.T) {
	got := exampleReport(options{rounds: 3}).table()
	_, rows, _ := strings.Cut(got, "|---|\n")
	want := `| echo | 64 | – | 24000 | 1000–90000 | – | 1.50 | 2.00 | 12 | 50 | 1000 | 0 |
| report | 1 | bolt | 600 | 600–600 | – | 1.50 | 2.00 | 12 | 50 | 1000 | 0 |
| report | 64 | bolt | 9999 | 9999–9999 | 0.42 | 1.50 | 2.00 | 12 | 50 | 1000 | 3 NO_LEADER, 20 OVERLOADED |
| report | 64 | wal | 12000 | 10000–20000 | 0.50 | 1.50 | 2.00 | 12 | 50 | 1000 | 0 |
| assign-new | 1 | bolt | 500 | 500–500 | – | 1.50 | 2.00 | 12 | 50 | 1000 | 0 |
`
	if rows != want {
		t.Errorf("rows are\n%s\nwant\n%s", rows, want)
	}
	for _, must := range []string{"test processor, 2 cores", "Median of 3 rounds", "bolt, round 1: 2 elections"} {
		if !strings.Contains(got, must) {
			t.Errorf("the table does not say %q:\n%s", must, got)
		}
	}
}

func TestOpenLoopIsNotComparedToEcho(t *testing.T) {
	for _, w := range exampleReport(options{rate: 100}).Rows {
		if w.OfEcho != 0 {
			t.Errorf("%s with %d callers is %v of echo, though the rate was given", w.Workload, w.Callers, w.OfEcho)
		}
	}
}

func TestVerdictNamesTheRowsThatFailed(t *testing.T) {
	r := exampleReport(options{})
	err := r.verdict() // 23 of 10 022 failed
	if err == nil || !strings.Contains(err.Error(), "report, 64 callers, bolt: 0.23 %") || strings.Contains(err.Error(), "wal") {
		t.Errorf("verdict is %v, want the one row with bolt", err)
	}
	for i := range r.Rows {
		for _, s := range r.Rows[i].Runs {
			s.Failures = nil
		}
	}
	r.Rows[0].Runs[0].Failures = map[string]int64{"OVERLOADED": 1}
	if err := r.verdict(); err != nil {
		t.Errorf("one failure in 115 000 calls: %v", err)
	}
}

func TestWrittenResultsCanBeReadAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	path, err := exampleReport(options{}).write(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var again report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if len(again.Rows) != 5 || again.Rows[3].Median.PerSecond != 12_000 || len(again.Rows[3].Runs) != 3 {
		t.Errorf("read again: %d rows, the fourth is %+v", len(again.Rows), again.Rows[3])
	}
	if again.Rows[3].Median.Latency.P99 != 12*time.Millisecond {
		t.Errorf("p99 is %v, want 12ms", again.Rows[3].Median.Latency.P99)
	}
	if _, err := os.Stat(path + ".md"); err != nil {
		t.Error(err)
	}
}
