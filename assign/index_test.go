package assign

import (
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

func TestSetAsideUntilHeardAgain(t *testing.T) {
	x, log := newFleet()
	mh := log.handler("mh", "a", 0, 100)
	x.SetAside(mh)
	if got := x.Choose(anyHandler); got != nil {
		t.Fatalf("chose %s, which is set aside", got.ID)
	}
	// A meeting that is committed on it is no word of its own.
	log.place(t, "m", 1, "mc", "mh")
	if got := x.Choose(anyHandler); got != nil {
		t.Fatalf("chose %s after a placement, and it has not reported", got.ID)
	}
	log.report(fsm.MediaHandler, "mh", fsm.Healthy, 0)
	if x.Choose(anyHandler) == nil {
		t.Error("it reported and is still set aside")
	}
}

func TestSetAsideByAnOldAcquaintance(t *testing.T) {
	x, log := newFleet()
	first := log.handler("mh", "a", 0, 100)
	second := log.report(fsm.MediaHandler, "mh", fsm.Healthy, 1)
	x.SetAside(first)
	if x.Choose(anyHandler) == nil {
		t.Fatal("a failure from before its report hides it")
	}
	// Two calls failed; that of the one who knew it longer is noticed last.
	x.SetAside(second)
	x.SetAside(first)
	if got := x.Choose(anyHandler); got != nil {
		t.Errorf("chose %s: the older failure undid the newer", got.ID)
	}
}

// place commits an assignment, without an assigner.
func (l *fakeLog) place(t *testing.T, meetingID string, counter uint64, mc string, mhs ...string) *fsm.Assignment {
	t.Helper()
	r := l.commit(placement(t, l.term, meetingID, counter, mc, mhs...))[0]
	if r.Outcome != fsm.Applied {
		t.Fatalf("placing %s: outcome %d", meetingID, r.Outcome)
	}
	return r.Assignment
}

func placement(t *testing.T, term uint64, meetingID string, counter uint64, mc string, mhs ...string) *commandv1.Command {
	t.Helper()
	token, err := fsm.NewToken(term, counter)
	if err != nil {
		t.Fatal(err)
	}
	assign := &commandv1.Assign{MeetingId: meetingID, Region: "eu", FencingToken: token, McId: mc, AssignedBy: "gc-1"}
	for _, id := range mhs {
		assign.MediaHandlers = append(assign.MediaHandlers, &commandv1.MediaHandlerRef{Id: id})
	}
	return &commandv1.Command{Op: &commandv1.Command_Assign{Assign: assign}}
}

func TestWhatIsInFlightRanksANodeAndNeverHidesIt(t *testing.T) {
	x, log := newFleet()
	log.handler("only", "a", 9, 10) // room for one by its own word
	for i := range uint64(50) {
		n := x.Choose(anyHandler)
		if n == nil {
			t.Fatalf("none is available after %d choices: a busy node was hidden", i)
		}
		if i%2 == 0 { // half are committed, half still pending
			log.place(t, nodeID("m", int(i)), i+1, "mc", n.ID)
			x.Done(n)
		}
	}
	log.handler("other", "a", 0, 10)
	expectOrder(t, x, anyHandler, "other", "only")
}

func TestPlacementsCountUntilAReportCanHaveSeenThem(t *testing.T) {
	x, log := newFleet()
	now := int64(100_000)
	log.stampMs = func() int64 { return now }
	log.handler("a", "", 0, 100)
	log.handler("b", "", 5, 100)
	for i := range uint64(10) {
		log.place(t, nodeID("m", int(i)), i+1, "mc", "a")
	}
	expectOrder(t, x, anyHandler, "b", "a")
	now += 500
	log.report(fsm.MediaHandler, "a", fsm.Healthy, 0) // too early to have seen them
	expectOrder(t, x, anyHandler, "b", "a")
	now += 5000
	log.report(fsm.MediaHandler, "a", fsm.Healthy, 1)
	expectOrder(t, x, anyHandler, "a", "b")
}

func TestResetTakesTheSnapshotAndKeepsWhatOnlyThisReplicaKnows(t *testing.T) {
	x, log := newFleet()
	log.stampMs = func() int64 { return 100_000 }
	log.handler("a", "za", 10, 100)
	log.handler("b", "zb", 20, 100)
	aside := log.handler("c", "zc", 0, 100)
	x.SetAside(aside)
	reserved := x.Choose(Query{Kind: fsm.MediaHandler, Region: "eu", Exclude: []string{"b"}})

	// The snapshot is of a state in which d was there, and b had more to do.
	other := newFakeLog(nil)
	other.stampMs = log.stampMs
	for _, id := range []string{"a", "b", "c"} {
		other.register(registration{kind: fsm.MediaHandler, id: id, zone: "z" + id, capacity: 100})
		other.report(fsm.MediaHandler, id, fsm.Healthy, map[string]uint32{"a": 10, "b": 30, "c": 0}[id])
	}
	other.handler("d", "za", 15, 100)
	if got, want := other.node(fsm.MediaHandler, "c").HeardIndex, aside.HeardIndex; got != want {
		t.Fatalf("the test's two logs differ: c was heard at %d and %d", got, want)
	}
	x.Reset(other.machine.Snapshot())
	expectOrder(t, x, anyHandler, "a", "d", "b")
	if n := x.Pending(fsm.MediaHandler, "a"); n != 1 {
		t.Errorf("%d meetings are pending on a after Reset, want 1", n)
	}
	x.Done(reserved)
	if n := x.Pending(fsm.MediaHandler, "a"); n != 0 {
		t.Errorf("%d meetings are pending on a after Done, want 0", n)
	}
}

func TestResetForgetsNodesThatAreGone(t *testing.T) {
	x, log := newFleet()
	for i := range 100 {
		log.handler(nodeID("mh", i), nodeID("zone", i), 0, 100)
	}
	reserved := x.Choose(anyHandler)
	x.Reset(fsm.NewState())
	expectOrder(t, x, anyHandler)
	if len(x.nodes) != 1 {
		t.Errorf("%d nodes are kept, want only the one with a pending meeting", len(x.nodes))
	}
	x.Done(reserved) // must not bring it back
	expectOrder(t, x, anyHandler)
}

func TestZonesThatAreEmptyCostNothing(t *testing.T) {
	x, log := newFleet()
	log.handler("stays", "a", 0, 100)
	for i := range 50 {
		log.handler("moves", nodeID("zone", i), 0, 100)
	}
	x.settle()
	if zones := len(x.pools[poolKey{fsm.MediaHandler, "eu"}]); zones != 2 {
		t.Errorf("a choice looks at %d zones, want 2", zones)
	}
	log.register(registration{kind: fsm.MediaHandler, id: "moves", region: "us"})
	log.report(fsm.MediaHandler, "moves", fsm.Healthy, 0)
	expectOrder(t, x, anyHandler, "stays")
	expectOrder(t, x, Query{Kind: fsm.MediaHandler, Region: "us"}, "moves")
}
