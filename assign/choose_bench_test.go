package assign

import (
	"fmt"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
)

// fleetOf returns an index of that many media handlers, in ten regions of three zones.
func fleetOf(nodes int) *Index {
	x := NewIndex()
	for i := range nodes {
		x.NodeChanged(&fsm.Node{
			Kind: fsm.MediaHandler, ID: nodeID("mh", i), Region: fmt.Sprintf("region-%d", i%10), Zone: fmt.Sprintf("zone-%d", i%3),
			Capacity: 1000, Used: uint32(i * 7919 % 900), Health: fsm.Healthy, HeardIndex: 1, LastReportMs: int64(i),
		})
	}
	return x
}

func BenchmarkChoose(b *testing.B) {
	for _, nodes := range []int{100, 10_000, 100_000} {
		x := fleetOf(nodes)
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.Done(x.Choose(Query{Kind: fsm.MediaHandler, Region: "region-3", PreferredZone: "zone-1"}))
			}
		})
	}
}

func TestAChoiceAllocatesTheSameAtAnySize(t *testing.T) {
	allocations := func(nodes int) float64 {
		x := fleetOf(nodes)
		return testing.AllocsPerRun(200, func() {
			x.Done(x.Choose(Query{Kind: fsm.MediaHandler, Region: "region-3", PreferredZone: "zone-1"}))
		})
	}
	small, large := allocations(500), allocations(50_000)
	t.Logf("%.0f allocations with 500 nodes, %.0f with 50 000", small, large)
	if large > small+2 {
		t.Errorf("%.0f allocations with 50 000 nodes, %.0f with 500", large, small)
	}
	if large > 40 {
		t.Errorf("%.0f allocations for one choice, want at most 40", large)
	}
}
