package fsm

import (
	"fmt"
	"testing"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// inFlight is what is in flight on the MC and the two MHs that assign names.
func inFlight(r *replica) [3]uint32 {
	r.Helper()
	return [3]uint32{
		r.node(MeetingController, "mc-1").InFlight(),
		r.node(MediaHandler, "mh-1").InFlight(),
		r.node(MediaHandler, "mh-2").InFlight(),
	}
}

func TestPlacementsCountOnEveryNodeOfTheAssignment(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	r.must(10_999, assign("m-2", 2))
	r.must(11_000, assign("m-3", 3))
	if got := inFlight(r); got != [3]uint32{3, 3, 3} {
		t.Errorf("in flight %v, want 3 on each", got)
	}
	if got := r.node(MediaHandler, "mh-3").InFlight(); got != 0 {
		t.Errorf("%d in flight on a node that was given nothing", got)
	}
	r.must(11_000, assign("m-3", 3)) // the same entry again
	if got := inFlight(r); got != [3]uint32{3, 3, 3} {
		t.Errorf("in flight %v after an assignment applied twice, want 3 on each", got)
	}
	r.expect(Conflict, 11_000, assign("m-3", 2))
	if got := inFlight(r); got != [3]uint32{3, 3, 3} {
		t.Errorf("in flight %v after an assignment that was refused, want 3 on each", got)
	}
	checkInvariants(t, r.state())
}

func TestOnlyALaterReportSettlesPlacements(t *testing.T) {
	for _, tc := range []struct {
		reportMs int64
		want     uint32
	}{
		{10_500, 1}, // the same second
		{10_999, 1},
		{11_000, 1}, // the next second
		{11_999, 1},
		{12_000, 0},
		{60_000, 0},
		{3_000, 1}, // a leader whose clock is behind
	} {
		for _, kind := range kinds {
			id := map[Kind]string{MediaHandler: "mh-1", MeetingController: "mc-1"}[kind]
			r := fleet(t)
			r.must(10_500, assign("m-1", 1))
			r.must(tc.reportMs, report(kind, id, Healthy, 1))
			if got := r.node(kind, id).InFlight(); got != tc.want {
				t.Errorf("placed at 10500, %v reported at %d: %d in flight, want %d", kind, tc.reportMs, got, tc.want)
			}
		}
	}
}

func TestAReportSettlesOnlyWhatIsOlder(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	r.must(12_000, assign("m-2", 2))
	r.must(12_500, report(MediaHandler, "mh-1", Healthy, 1))
	if got := inFlight(r); got != [3]uint32{2, 1, 2} {
		t.Errorf("in flight %v, want 1 on mh-1, which reported, and 2 on the others", got)
	}
}

func TestAReportWithoutCountsSettlesNothing(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	r.must(60_000, &commandv1.ReportLoad{Kind: MeetingController, Id: "mc-1", Health: Healthy})
	if got := inFlight(r)[0]; got != 1 {
		t.Errorf("%d in flight, want 1: the report did not count", got)
	}
}

func TestTheEndOfAMeetingTakesItsPlacementBack(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	r.must(10_000, assign("m-2", 2))
	r.must(10_500, &commandv1.End{Region: "eu", MeetingId: "m-1"})
	if got := inFlight(r); got != [3]uint32{1, 1, 1} {
		t.Errorf("in flight %v after one of two meetings ended, want 1 on each", got)
	}
	r.must(60_000, report(MediaHandler, "mh-1", Healthy, 1))
	r.must(60_000, assign("m-3", 3))
	r.must(60_000, &commandv1.End{Region: "eu", MeetingId: "m-2"})
	if got := inFlight(r); got != [3]uint32{1, 1, 1} {
		t.Errorf("in flight %v: m-2 was settled on mh-1, its end must not take m-3 back there", got)
	}
	checkInvariants(t, r.state())
}

func TestReplacingMovesThePlacement(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	next := assign("m-1", 2)
	next.ExpectToken, next.McId = token(1), "mc-2"
	next.MediaHandlers = mediaHandlers("mh-2", "mh-3")
	r.must(10_000, next)
	if got := inFlight(r); got != [3]uint32{0, 0, 1} {
		t.Errorf("in flight %v, want none on mc-1 and mh-1 any more", got)
	}
	if got := r.node(MeetingController, "mc-2").InFlight(); got != 1 {
		t.Errorf("%d in flight on mc-2, want 1", got)
	}
}

func TestARestartForgetsPlacements(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	r.must(10_000, register(MediaHandler, "mh-1", 99))
	r.must(20_000, &commandv1.End{Region: "eu", MeetingId: "m-1"})
	if got := inFlight(r); got != [3]uint32{0, 0, 0} {
		t.Errorf("in flight %v, want none", got)
	}
}

func TestPlacementsAreBounded(t *testing.T) {
	const seconds = 3 * maxPlacements
	r := fleet(t)
	for i := range seconds {
		r.must(int64(10_000+i*1000), assign(fmt.Sprintf("m-%d", i), uint64(i+1)))
	}
	n := r.node(MediaHandler, "mh-1")
	if len(n.Placements) > maxPlacements {
		t.Errorf("%d buckets, at most %d are kept", len(n.Placements), maxPlacements)
	}
	if n.InFlight() != seconds {
		t.Errorf("%d in flight, want all %d: the bound must not lose any", n.InFlight(), seconds)
	}
	checkInvariants(t, r.state())
}

func TestPlacementLeavesEarlierNodesAlone(t *testing.T) {
	r := fleet(t)
	r.must(10_000, assign("m-1", 1))
	before := r.node(MediaHandler, "mh-1")
	r.must(10_000, assign("m-2", 2))
	r.must(10_000, &commandv1.End{Region: "eu", MeetingId: "m-1"})
	r.must(10_000, &commandv1.End{Region: "eu", MeetingId: "m-2"})
	if before.InFlight() != 1 || before.digest() != before.sum {
		t.Errorf("a Node that was read before has changed: %+v", before)
	}
}
