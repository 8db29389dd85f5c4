package measure

import "testing"

func TestMedianIsTheRunInTheMiddle(t *testing.T) {
	runs := func(rates ...float64) (samples []*Sample) {
		for _, r := range rates {
			samples = append(samples, &Sample{PerSecond: r})
		}
		return samples
	}
	for _, c := range []struct {
		samples []*Sample
		want    float64
	}{
		{runs(7), 7},
		{runs(30, 10, 20), 20},
		{runs(40, 10, 30, 20), 20},
	} {
		if got := Median(c.samples).PerSecond; got != c.want {
			t.Errorf("median of %d runs is %v, want %v", len(c.samples), got, c.want)
		}
	}
}

func TestFailedShareOfNothingIsEverything(t *testing.T) {
	if got := FailedShare([]*Sample{{}}); got != 1 {
		t.Errorf("a run without calls: failed share %v, want 1", got)
	}
	if got := FailedShare([]*Sample{{Operations: 999}, {Failures: map[string]int64{"X": 1}}}); got != 0.001 {
		t.Errorf("failed share %v, want 0.001 over both runs", got)
	}
}
