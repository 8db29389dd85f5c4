package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/bench/machine"
)

func outcomes(ms ...int) []outcome {
	var all []outcome
	for _, m := range ms {
		all = append(all, outcome{Gap: time.Duration(m) * time.Millisecond})
	}
	return all
}

func exampleReport() *report {
	r := newReport(&options{root: ".", pace: 5 * time.Millisecond, lasts: 3 * time.Second}, &machine.Facts{CPU: "test processor", Cores: 2})
	r.Systems = []described{{"conclave", "with the timers of a test"}}
	r.Rows = []*row{
		{System: "conclave", Fault: sigkill, Outcomes: outcomes(300, 100, 200, 400), Acknowledged: 1000, LookedForLost: true},
		{System: "etcd-default", Fault: sigstop, Outcomes: append(outcomes(1200), outcome{3100 * time.Millisecond, true}), Acknowledged: 500},
	}
	return r
}

func TestTable(t *testing.T) {
	got := exampleReport().table()
	_, rows, _ := strings.Cut(got, "--:|\n")
	want := `| SIGKILL | conclave | 4 | 200 | 400 | 400 | 400 | 250 | – | 1000 | 0 |
| SIGSTOP | etcd-default | 2 | 1200 | 3100 | 3100 | 3100 | 2150 | 1 | 500 | ? |
`
	if rows != want {
		t.Errorf("rows are\n%s\nwant\n%s", rows, want)
	}
	for _, must := range []string{"test processor, 2 cores", "every 5ms", "with the timers of a test", "last 3s"} {
		if !strings.Contains(got, must) {
			t.Errorf("the table does not say %q:\n%s", must, got)
		}
	}
	if strings.Contains(got, "Not everything") {
		t.Error("a complete report calls itself incomplete")
	}
}

func TestIncompleteReportSaysSo(t *testing.T) {
	r := exampleReport()
	r.Incomplete = "the power failed"
	if got := r.table(); !strings.Contains(got, "**Not everything was measured**: the power failed") {
		t.Errorf("the table does not say what is missing:\n%s", got)
	}
}

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for percent, want := range map[int]time.Duration{1: 1, 50: 50, 90: 90, 99: 99, 100: 100} {
		if got := quantile(hundred, percent); got != want {
			t.Errorf("of 1 to 100, %d %% are at most %d, want %d", percent, got, want)
		}
	}
	if got := quantile([]time.Duration{7}, 50); got != 7 {
		t.Errorf("the median of 7 alone is %d", got)
	}
}

func TestVerdictNamesWhatWasLost(t *testing.T) {
	r := exampleReport()
	if err := r.verdict(); err != nil {
		t.Errorf("nothing was lost: %v", err)
	}
	r.Rows[0].Lost = []string{"w-0-1-7"}
	if err := r.verdict(); err == nil || err.Error() != "conclave, SIGKILL: 1 of 1000 acknowledged writes were lost" {
		t.Errorf("verdict is %v", err)
	}
}

func TestWrittenResultsHoldEveryGap(t *testing.T) {
	path, err := exampleReport().write(filepath.Join(t.TempDir(), "results"))
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
	if len(again.Rows) != 2 || len(again.Rows[0].Outcomes) != 4 || again.Rows[0].Outcomes[1].Gap != 100*time.Millisecond {
		t.Errorf("read again: %+v", again.Rows)
	}
	if !again.Rows[1].Outcomes[1].Outlasted {
		t.Error("a gap that outlasted its fault is not marked")
	}
}
