package assign

import (
	"math"
	"slices"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

var (
	anyHandler    = Query{Kind: fsm.MediaHandler, Region: "eu"}
	anyController = Query{Kind: fsm.MeetingController, Region: "eu"}
)

// newFleet returns an index that follows a state machine.
func newFleet() (*Index, *fakeLog) {
	x := NewIndex()
	return x, newFakeLog(x)
}

// handler registers a healthy media handler of eu and lets it report.
func (l *fakeLog) handler(id, zone string, used, capacity uint32) *fsm.Node {
	l.register(registration{kind: fsm.MediaHandler, id: id, zone: zone, capacity: capacity})
	return l.report(fsm.MediaHandler, id, fsm.Healthy, used)
}

func idOf(n *fsm.Node) string {
	if n == nil {
		return ""
	}
	return n.ID
}

// frequencies chooses often, each time in the same state, and counts who was chosen.
func frequencies(x *Index, q Query, times int) map[string]int {
	drawn := make(map[string]int)
	for range times {
		n := x.Choose(q)
		drawn[idOf(n)]++
		if n != nil {
			x.Done(n)
		}
	}
	return drawn
}

const draws = 20_000

// expectShare fails when a share of draws is further off than seven standard deviations, which
// chance alone does once in 390 000 million runs.
func expectShare(t *testing.T, drawn map[string]int, id string, share float64) {
	t.Helper()
	got := float64(drawn[id]) / draws
	if tolerance := 7 * math.Sqrt(share*(1-share)/draws); math.Abs(got-share) > tolerance {
		t.Errorf("%s has %.3f of the draws, want %.3f ± %.3f", id, got, share, tolerance)
	}
}

func TestWeight(t *testing.T) {
	for _, c := range []struct {
		name      string
		health    fsm.Health
		zone      string
		load      float64
		preferred string
		want      float64
	}{
		{"idle", fsm.Healthy, "a", 0, "", 1},
		{"half full", fsm.Healthy, "a", 0.5, "", 0.5},
		{"at the floor", fsm.Healthy, "a", 0.99, "", 0.01},
		{"full", fsm.Healthy, "a", 1, "", 0.01},
		{"above capacity", fsm.Healthy, "a", 3, "", 0.01},
		{"degraded", fsm.Degraded, "a", 0.5, "", 0.25},
		{"preferred", fsm.Healthy, "a", 0.5, "a", 0.6},
		{"another zone preferred", fsm.Healthy, "a", 0.5, "b", 0.5},
		{"without a zone nobody is preferred", fsm.Healthy, "", 0.5, "", 0.5},
		{"degraded and preferred", fsm.Degraded, "a", 0, "a", 0.6},
	} {
		got := weight(&fsm.Node{Health: c.health, Zone: c.zone}, c.load, c.preferred)
		if math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestDraw(t *testing.T) {
	almostOne := math.Nextafter(1, 0)
	for _, c := range []struct {
		weights []float64
		point   float64
		want    int
	}{
		{[]float64{1}, 0, 0},
		{[]float64{1}, almostOne, 0},
		{[]float64{1, 3}, 0, 0},
		{[]float64{1, 3}, 0.2499, 0},
		{[]float64{1, 3}, 0.25, 1},
		{[]float64{1, 3}, almostOne, 1},
		{[]float64{0.01, 0.01, 0.02}, 0.49, 1},
		{[]float64{0.01, 0.01, 0.02}, 0.51, 2},
		{[]float64{0.1, 0.2, 0.3, 0.4, 0.5}, almostOne, 4},
	} {
		if got := draw(c.weights, c.point); got != c.want {
			t.Errorf("draw(%v, %v) = %d, want %d", c.weights, c.point, got, c.want)
		}
	}
}

func TestRandomFloatFillsItsRange(t *testing.T) {
	var tenths [10]int
	for range draws {
		f := randomFloat()
		if f < 0 || f >= 1 {
			t.Fatalf("%v is not in [0, 1)", f)
		}
		tenths[int(f*10)]++
	}
	for i, n := range tenths {
		expectShare(t, map[string]int{"tenth": n}, "tenth", 0.1)
		if n == 0 {
			t.Errorf("nothing in tenth %d", i)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   fsm.Kind
		region string
		health fsm.Health // Pending: it never reported
		used   uint32
		chosen bool
	}{
		{"healthy", fsm.MediaHandler, "eu", fsm.Healthy, 0, true},
		{"degraded", fsm.MediaHandler, "eu", fsm.Degraded, 0, true},
		{"pending", fsm.MediaHandler, "eu", fsm.Pending, 0, false},
		{"unhealthy", fsm.MediaHandler, "eu", fsm.Unhealthy, 0, false},
		{"draining", fsm.MediaHandler, "eu", fsm.Draining, 0, false},
		{"room for one", fsm.MediaHandler, "eu", fsm.Healthy, 99, true},
		{"full", fsm.MediaHandler, "eu", fsm.Healthy, 100, false},
		{"more than full", fsm.MediaHandler, "eu", fsm.Healthy, 101, false},
		{"another region", fsm.MediaHandler, "us", fsm.Healthy, 0, false},
		{"another kind", fsm.MeetingController, "eu", fsm.Healthy, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, log := newFleet()
			log.register(registration{kind: c.kind, id: "n", region: c.region, capacity: 100})
			if c.health != fsm.Pending {
				log.report(c.kind, "n", c.health, c.used)
			}
			if got := x.Choose(anyHandler); (got != nil) != c.chosen {
				t.Errorf("chose %v, want chosen %t", got, c.chosen)
			}
		})
	}
}

func TestRegisteringAgainHidesANodeUntilItReports(t *testing.T) {
	x, log := newFleet()
	log.handler("mh", "a", 0, 100)
	log.register(registration{kind: fsm.MediaHandler, id: "mh"})
	if got := x.Choose(anyHandler); got != nil {
		t.Fatalf("chose %s, which is pending again", got.ID)
	}
	log.report(fsm.MediaHandler, "mh", fsm.Healthy, 0)
	if x.Choose(anyHandler) == nil {
		t.Error("it reported and is still not chosen")
	}
}

func TestDegradedIsDrawnHalfAsOften(t *testing.T) {
	x, log := newFleet()
	log.handler("well", "a", 0, 100)
	log.handler("degraded", "a", 0, 100)
	log.report(fsm.MediaHandler, "degraded", fsm.Degraded, 0)
	drawn := frequencies(x, anyHandler, draws)
	expectShare(t, drawn, "well", 1/1.5)
	expectShare(t, drawn, "degraded", 0.5/1.5)
}

func TestPreferredZoneIsDrawnMoreOften(t *testing.T) {
	x, log := newFleet()
	log.handler("near", "a", 0, 100)
	log.handler("far", "b", 0, 100)
	q := anyHandler
	q.PreferredZone = "a"
	expectShare(t, frequencies(x, q, draws), "near", 1.2/2.2)
	expectShare(t, frequencies(x, anyHandler, draws), "near", 0.5)
}

func TestOnlyTheBestFiveAreDrawn(t *testing.T) {
	x, log := newFleet()
	var total float64
	for i := range 9 {
		zone := []string{"a", "b", "c"}[i%3]
		log.handler(nodeID("mh", i), zone, uint32(10*i), 100)
		if i < 5 {
			total += 1 - float64(i)/10
		}
	}
	drawn := frequencies(x, anyHandler, draws)
	for i := range 9 {
		share := 0.0
		if i < 5 {
			share = (1 - float64(i)/10) / total
		}
		expectShare(t, drawn, nodeID("mh", i), share)
	}
}

// order is the whole order of preference, the best first.
func order(x *Index, q Query) []string {
	var ids []string
	for {
		q.Exclude = ids
		x.mu.Lock()
		best := x.shortlist(q)
		x.mu.Unlock()
		if len(best) == 0 {
			return ids
		}
		for _, r := range best {
			ids = append(ids, r.id)
		}
	}
}

func expectOrder(t *testing.T, x *Index, q Query, want ...string) {
	t.Helper()
	if got := order(x, q); !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestTheScarcestResourceRanks(t *testing.T) {
	x, log := newFleet()
	report := func(id string, used uint32, cpu, memory, bandwidth float32) {
		log.register(registration{kind: fsm.MediaHandler, id: id, capacity: 100})
		log.commit(&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
			Kind: fsm.MediaHandler, Id: id, Health: fsm.Healthy, Usage: &commandv1.Usage{Used: used},
			CpuPercent: cpu, MemoryPercent: memory, BandwidthPercent: bandwidth,
		}}})
	}
	report("cpu", 10, 60, 0, 0)
	report("streams", 50, 10, 0, 0)
	report("bandwidth", 10, 10, 0, 40)
	report("memory", 30, 10, 99, 0)
	expectOrder(t, x, anyHandler, "memory", "bandwidth", "streams", "cpu")
}

func TestLoadAboveCapacityRanks(t *testing.T) {
	x, log := newFleet()
	log.stampMs = func() int64 { return 50_000 }
	// Both have room by their own word, and more in flight than they have room for.
	log.handler("fuller", "a", 9, 10)
	log.handler("full", "b", 9, 10)
	reserve := func(n string, times int) {
		for range times {
			x.update(fsm.MediaHandler, n, func(c *candidate) { c.pending++ })
		}
	}
	reserve("fuller", 9)
	reserve("full", 7)
	expectOrder(t, x, anyHandler, "full", "fuller")
	reserve("full", 3)
	expectOrder(t, x, anyHandler, "fuller", "full")
}

func TestTheMostRecentReportBreaksTies(t *testing.T) {
	x, log := newFleet()
	now := int64(50_000)
	log.stampMs = func() int64 { return now }
	for _, id := range []string{"c", "a", "b"} {
		now += 10
		log.handler(id, "zone-"+id, 0, 100)
	}
	expectOrder(t, x, anyHandler, "b", "a", "c")
	now += 10
	log.report(fsm.MediaHandler, "c", fsm.Healthy, 0)
	expectOrder(t, x, anyHandler, "c", "b", "a")
	// At the same time, by id: every replica has the same order.
	log.report(fsm.MediaHandler, "b", fsm.Healthy, 0)
	expectOrder(t, x, anyHandler, "b", "c", "a")
}

func TestExcludedNodesAndZonesAreNotChosen(t *testing.T) {
	x, log := newFleet()
	log.handler("a1", "a", 0, 100)
	log.handler("a2", "a", 10, 100)
	log.handler("b1", "b", 20, 100)
	zone := "a"
	expectOrder(t, x, Query{Kind: fsm.MediaHandler, Region: "eu", AvoidZone: &zone}, "b1")
	if got := x.Choose(Query{Kind: fsm.MediaHandler, Region: "eu", Exclude: []string{"a1", "b1"}}); idOf(got) != "a2" {
		t.Errorf("chose %v, want a2", got)
	}
	if got := x.Choose(Query{Kind: fsm.MediaHandler, Region: "eu", Exclude: []string{"a1", "a2", "b1"}}); got != nil {
		t.Errorf("chose %s of none", got.ID)
	}
	nowhere := ""
	if got := x.Choose(Query{Kind: fsm.MediaHandler, Region: "eu", AvoidZone: &nowhere}); got == nil {
		t.Error("avoiding the unnamed zone avoids every zone")
	}
}
