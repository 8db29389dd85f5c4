package main

import (
	"math"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/bench/measure"
)

func sampleOf(perSecond float64, p50, p95 time.Duration) *measure.Sample {
	return &measure.Sample{Operations: int64(perSecond), PerSecond: perSecond, Latency: measure.Latency{P50: p50, P95: p95}}
}

// exampleSamples have two rounds. Conclave's reports are half of echo's in the first, a quarter in
// the second.
func exampleSamples() map[key][]*measure.Sample {
	ms := time.Millisecond
	return map[key][]*measure.Sample{
		{sysEcho, wEcho, 512}:       {sampleOf(60_000, ms, ms), sampleOf(40_000, ms, ms)},
		{sysConclave, wReport, 512}: {sampleOf(30_000, ms, ms), sampleOf(10_000, ms, ms)},
		{sysLeader, wReport, 512}:   {sampleOf(36_000, ms, ms), sampleOf(36_000, ms, ms)},
		{sysEtcd, wReport, 512}:     {sampleOf(5_000, ms, ms), sampleOf(5_000, ms, ms)},
		{sysConclave, wStream, 24}:  {sampleOf(100_000, ms, ms), sampleOf(100_000, ms, ms)},
		{sysConclave, wAssign, 64}:  {sampleOf(4_000, 9*ms, 21*ms), sampleOf(4_000, 9*ms, 21*ms)},
		{sysPostgres, wAssign, 64}:  {sampleOf(1_000, ms, ms), sampleOf(1_000, ms, ms)},
		{sysEtcd, wAssign, 1}:       {sampleOf(500, 2*ms, ms), sampleOf(500, 2*ms, ms)},
		{sysEcho, wEcho, 1}:         {sampleOf(5_000, ms, ms), sampleOf(5_000, ms, ms)},
		{sysConclave, wAssign, 1}:   {sampleOf(400, 1500*time.Microsecond, ms), sampleOf(400, 1500*time.Microsecond, ms)},
		{sysConclave, wReport, 64}:  {sampleOf(9_000, ms, ms)},
	}
}

func TestBars(t *testing.T) {
	want := []struct {
		figure float64 // 0: none
		result string
	}{
		{10_000.0 / 40_000, missed}, // of two runs the slower is the median
		{2, met},
		{0, notMeasured}, // etcd with 64 callers is not there
		{100_000, met},   // just so
		{0, notMeasured},
		{4, met},
		{21, missed}, // the lower the better
		{0, notMeasured},
		{0.5, met}, // 1.5 ms of 2 ms and 1 ms
	}
	got := judge(exampleSamples())
	if len(got) != len(want) {
		t.Fatalf("%d bars, want %d", len(got), len(want))
	}
	for i, w := range want {
		v := got[i]
		if v.Result != w.result || (v.Figure == nil) != (w.figure == 0) || v.Figure != nil && math.Abs(*v.Figure-w.figure) > 1e-9 {
			t.Errorf("%s: %s with %s, want %s with %v", v.Bar, v.Result, v.show(v.Figure), w.result, w.figure)
		}
	}
	echo := got[0]
	if *echo.Least != 0.25 || *echo.Most != 0.5 {
		t.Errorf("rounds are from %v to %v, want 0.25 to 0.5", *echo.Least, *echo.Most)
	}
	if *echo.AtLeader != 0.9 {
		t.Errorf("at the leader it is %v, want 0.9", *echo.AtLeader)
	}
	if got[3].AtLeader != nil {
		t.Error("there is no stream at the leader alone")
	}
}

func TestBarsShowTheirUnits(t *testing.T) {
	got := judge(exampleSamples())
	for i, want := range map[int]string{0: "≥ 0.50 0.25", 3: "≥ 100000/s 100000/s", 6: "≤ 20.0 ms 21.0 ms"} {
		if shown := got[i].Wanted + " " + got[i].show(got[i].Figure); shown != want {
			t.Errorf("%s is shown as %q, want %q", got[i].Bar, shown, want)
		}
	}
	if got[2].show(got[2].Figure) != "–" || got[2].spread() != "–" {
		t.Error("what was not measured has a figure")
	}
}
