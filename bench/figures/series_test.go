package figures

import (
	"strings"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/bench/measure"
)

func TestSeriesShowsWhatItIsOf(t *testing.T) {
	r := Of([]*measure.Sample{
		{Operations: 10_000, PerSecond: 300, Failures: map[string]int64{"OVERLOADED": 20, "NO_LEADER": 1}},
		{Operations: 10_000, PerSecond: 100, Failures: map[string]int64{"NO_LEADER": 2}},
		{Operations: 10_000, PerSecond: 200, Unsent: 4},
	})
	if r.Median.PerSecond != 200 || r.Spread() != "100–300" {
		t.Errorf("median %v, spread %s; want 200 and 100–300", r.Median.PerSecond, r.Spread())
	}
	if got := r.Failures(); got != "3 NO_LEADER, 20 OVERLOADED, 4 UNSENT" {
		t.Errorf("failures are %q", got)
	}
	if err := r.Check("it"); err != nil {
		t.Errorf("27 of 30 027 failed, which is tolerated: %v", err)
	}
	r.Runs[0].Failures["OVERLOADED"] = 40
	if err := r.Check("it"); err == nil || !strings.HasPrefix(err.Error(), "it: 0.16 %") {
		t.Errorf("47 of 30 047 failed: %v", err)
	}
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]string{1500 * time.Microsecond: "1.50", 12 * time.Millisecond: "12", time.Second: "1000"} {
		if got := Millis(d); got != want {
			t.Errorf("%v is shown as %s, want %s", d, got, want)
		}
	}
}
