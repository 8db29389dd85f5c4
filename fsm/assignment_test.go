package fsm

import (
	"fmt"
	"reflect"
	"testing"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// fleet is a replica with two MCs and three MHs in region "eu", all healthy.
func fleet(t failer) *replica {
	r := newReplica(t)
	for i, id := range []string{"mc-1", "mc-2", "mh-1", "mh-2", "mh-3"} {
		kind := MeetingController
		if id[1] == 'h' {
			kind = MediaHandler
		}
		r.must(1000, register(kind, id, uint64(i+1)))
		r.must(1000, report(kind, id, Healthy, 0))
	}
	return r
}

// token is what the leader of term 1 draws with its counter at n; 0 is none.
func token(n uint64) uint64 {
	if n == 0 {
		return 0
	}
	return 1<<tokenCounterBits | n
}

// assign gives a meeting of "eu", which has no live assignment, to mc-1 with mh-1 and mh-2.
func assign(meeting string, n uint64) *commandv1.Assign {
	return &commandv1.Assign{
		MeetingId: meeting, Region: "eu", FencingToken: token(n),
		McId: "mc-1", McIncarnation: 1,
		McGrpcEndpoint: "https://mc-1:50051", McWebtransportEndpoint: "https://mc-1:4433",
		MediaHandlers: mediaHandlers("mh-1", "mh-2"), AssignedBy: "gc-1",
	}
}

func mediaHandlers(ids ...string) []*commandv1.MediaHandlerRef {
	var refs []*commandv1.MediaHandlerRef
	for _, id := range ids {
		refs = append(refs, &commandv1.MediaHandlerRef{
			Id: id, GrpcEndpoint: "https://" + id + ":50051", WebtransportEndpoint: "https://" + id + ":4433",
		})
	}
	return refs
}

func endOf(meeting string, n uint64, reason string) *commandv1.End {
	return &commandv1.End{Region: "eu", MeetingId: meeting, FencingToken: token(n), Reason: reason}
}

func meetingKey(meeting string) MeetingKey { return MeetingKey{Region: "eu", MeetingID: meeting} }

func TestAssign(t *testing.T) {
	r := fleet(t)
	got := r.must(5000, assign("m", 7)).Assignment
	want := &Assignment{
		MeetingKey: meetingKey("m"), Token: token(7), MCID: "mc-1", MCIncarnation: 1,
		MCGRPCEndpoint: "https://mc-1:50051", MCWebTransportEndpoint: "https://mc-1:4433",
		MediaHandlers: []MediaHandlerRef{
			{"mh-1", "https://mh-1:4433", "https://mh-1:50051"},
			{"mh-2", "https://mh-2:4433", "https://mh-2:50051"},
		},
		AssignedBy: "gc-1", AssignedAtMs: 5000,
	}
	want.sum = want.digest()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("assigned\n%+v, want\n%+v", got, want)
	}
	if r.state().LiveAssignment(meetingKey("m")) != got {
		t.Error("the result is not what stands")
	}
	checkInvariants(t, r.state())
}

func TestAssignIsIdempotent(t *testing.T) {
	r := fleet(t)
	first := r.must(5000, assign("m", 7)).Assignment
	before := r.state().Hash()
	again := r.must(5000, assign("m", 7))
	if again.Assignment != first || r.state().Hash() != before {
		t.Errorf("the same entry again gave %+v", again.Assignment)
	}
}

// Each case runs on a fleet where "m" has the live assignment with token 7 on mc-1, and is
// refused or not.
func TestAssignIsCompareAndSet(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*commandv1.Assign, *Node)
		want   Outcome
	}{
		"decided on what stands":             {func(*commandv1.Assign, *Node) {}, Applied},
		"expected none":                      {func(a *commandv1.Assign, _ *Node) { a.ExpectToken = token(0) }, Conflict},
		"expected another token":             {func(a *commandv1.Assign, _ *Node) { a.ExpectToken = token(6) }, Conflict},
		"token not above the live one":       {func(a *commandv1.Assign, _ *Node) { a.FencingToken = token(6) }, Conflict},
		"token of the live one, other MC":    {func(a *commandv1.Assign, _ *Node) { a.FencingToken = token(7) }, Conflict},
		"token of a term to come":            {func(a *commandv1.Assign, _ *Node) { a.FencingToken = 2<<tokenCounterBits | 1 }, Conflict},
		"saw the MC's incarnation":           {func(a *commandv1.Assign, mc *Node) { a.ExpectMcIncarnation = mc.Incarnation }, Applied},
		"the MC has another incarnation":     {func(a *commandv1.Assign, mc *Node) { a.ExpectMcIncarnation = mc.Incarnation + 1 }, Conflict},
		"saw the MC's last heartbeat":        {func(a *commandv1.Assign, mc *Node) { a.ExpectMcHeardIndex = mc.HeardIndex }, Applied},
		"the MC has been heard since":        {func(a *commandv1.Assign, mc *Node) { a.ExpectMcHeardIndex = mc.HeardIndex - 1 }, Conflict},
		"right incarnation, wrong heartbeat": {func(a *commandv1.Assign, mc *Node) { a.ExpectMcIncarnation, a.ExpectMcHeardIndex = mc.Incarnation, 999 }, Conflict},
		"right heartbeat, wrong incarnation": {func(a *commandv1.Assign, mc *Node) { a.ExpectMcIncarnation, a.ExpectMcHeardIndex = 999, mc.HeardIndex }, Conflict},
		"every expectation named and correct": {func(a *commandv1.Assign, mc *Node) {
			a.ExpectMcIncarnation, a.ExpectMcHeardIndex = mc.Incarnation, mc.HeardIndex
		}, Applied},
	} {
		t.Run(name, func(t *testing.T) {
			r := fleet(t)
			standing := r.must(5000, assign("m", 7)).Assignment
			cmd := assign("m", 8)
			cmd.McId, cmd.ExpectToken, cmd.ReplaceReason = "mc-2", token(7), "mc unhealthy"
			tc.change(cmd, r.node(MeetingController, "mc-1"))
			before := r.state().Hash()
			got := r.expect(tc.want, 5000, cmd)
			if tc.want == Conflict {
				if got.Assignment != standing || r.state().Hash() != before {
					t.Errorf("refused with %+v, want what stands, unchanged", got.Assignment)
				}
				return
			}
			old := r.state().LastEnded(meetingKey("m"))
			if got.Assignment.Token != token(8) || old == nil || old.Token != token(7) || old.EndReason != "mc unhealthy" || old.Live() {
				t.Errorf("%+v replaced %+v", got.Assignment, old)
			}
			if !standing.Live() {
				t.Error("an Assignment that was read before has changed")
			}
			checkInvariants(t, r.state())
		})
	}
}

func TestTokensRiseOverEndedAssignmentsToo(t *testing.T) {
	r := fleet(t)
	r.must(5000, assign("m", 7))
	r.must(6000, endOf("m", 7, "done"))
	for _, n := range []uint64{0, 1, 6, 7} {
		if got := r.expect(Conflict, 6000, assign("m", n)); got.Assignment != nil {
			t.Errorf("token %d was refused with %+v, but nothing is live", n, got.Assignment)
		}
	}
	r.must(6000, assign("m", 8))
	r.must(6000, assign("other", 1))
}

// A leader that loses the lead and wins it again may still have a proposal of its earlier term
// in hand, whose token it has released in the meantime.
func TestATokenIsGoodInItsOwnTermOnly(t *testing.T) {
	r := fleet(t)
	accepted := r.must(5000, assign("m", 1)).Assignment
	r.term = 2
	r.expect(Conflict, 5000, assign("other", 9))
	if got := r.must(5000, assign("m", 1)).Assignment; got != accepted {
		t.Errorf("the same assignment applied again gave %+v, want what stands", got)
	}
	next := assign("other", 0)
	next.FencingToken = 2<<tokenCounterBits | 1
	r.must(5000, next)
}

func TestTokensRiseAcrossTerms(t *testing.T) {
	var last uint64
	for _, from := range [][2]uint64{{0, 1}, {0, maxTokenCounter}, {1, 0}, {1, 1}, {2, 0}, {maxTokenTerm, maxTokenCounter}} {
		token, err := NewToken(from[0], from[1])
		if err != nil || token <= last || TokenTerm(token) != from[0] {
			t.Errorf("term %d, counter %d: token %d of term %d after %d, %v", from[0], from[1], token, TokenTerm(token), last, err)
		}
		last = token
	}
	for _, from := range [][2]uint64{{maxTokenTerm + 1, 0}, {0, maxTokenCounter + 1}} {
		if token, err := NewToken(from[0], from[1]); err == nil {
			t.Errorf("term %d, counter %d does not fit, and gave token %d", from[0], from[1], token)
		}
	}
}

func TestAnEndedMeetingCanBeJoinedAgain(t *testing.T) {
	r := fleet(t)
	r.must(5000, assign("m", 7))
	r.must(6000, endOf("m", 0, "done"))
	next := r.must(7000, assign("m", 8)).Assignment
	if !next.Live() || next.EndedAtMs != 0 || next.EndReason != "" || next.AssignedAtMs != 7000 {
		t.Errorf("the new assignment is %+v, want a live one", next)
	}
	if last := r.state().LastEnded(meetingKey("m")); last == nil || last.Token != token(7) || last.EndedAtMs != 6000 {
		t.Errorf("the ended one is %+v, want token 7 as it ended", last)
	}
	if got := r.state().Counts(); got.LiveAssignments != 1 || got.EndedAssignments != 1 {
		t.Errorf("counts %+v", got)
	}
	checkInvariants(t, restored(t, r.state()))
}

func TestEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		token uint64
		want  Outcome
	}{
		"by its token":       {7, Applied},
		"whichever is live":  {0, Applied},
		"by a stale token":   {6, Fenced},
		"by a token to come": {8, Fenced},
	} {
		t.Run(name, func(t *testing.T) {
			r := fleet(t)
			standing := r.must(5000, assign("m", 7)).Assignment
			got := r.expect(tc.want, 6000, endOf("m", tc.token, "done"))
			if tc.want == Fenced {
				if got.Assignment != standing || r.state().LiveAssignment(meetingKey("m")) != standing {
					t.Errorf("fenced, and now stands %+v", got.Assignment)
				}
				return
			}
			if e := got.Assignment; e.Token != token(7) || e.EndedAtMs != 6000 || e.EndReason != "done" {
				t.Errorf("ended %+v", e)
			}
			if live := r.state().LiveAssignment(meetingKey("m")); live != nil {
				t.Errorf("still live: %+v", live)
			}
			if r.state().LastEnded(meetingKey("m")) != got.Assignment {
				t.Error("the result is not what is kept")
			}
			checkInvariants(t, r.state())
		})
	}
}

// The leader saw token 7 live on an unhealthy MC; before its replacement committed, the meeting
// ended. To assign it all the same would bring back a meeting that nobody asked for.
func TestAReplacementOfWhatHasEndedIsRefused(t *testing.T) {
	r := fleet(t)
	r.must(5000, assign("m", 7))
	r.must(6000, endOf("m", 7, "done"))
	next := assign("m", 8)
	next.ExpectToken = token(7)
	if got := r.expect(Conflict, 6000, next).Assignment; got != nil {
		t.Errorf("refused with %+v, but nothing is live", got)
	}
}

func TestEndTwiceEndsOnce(t *testing.T) {
	r := fleet(t)
	r.must(5000, assign("m", 7))
	first := r.must(6000, endOf("m", 7, "done")).Assignment
	again := r.must(9000, endOf("m", 7, "again")).Assignment
	if again != first || again.EndedAtMs != 6000 || again.EndReason != "done" {
		t.Errorf("the second end gave %+v, want the first", again)
	}
	if got := r.expect(Fenced, 9000, endOf("m", 6, "late")).Assignment; got != first {
		t.Errorf("an older token was fenced with %+v, want the one that ended last", got)
	}
	r.expect(NoAssignment, 9000, endOf("m", 8, "early"))
	r.expect(NoAssignment, 9000, endOf("m", 0, "again"))
	r.expect(NoAssignment, 9000, endOf("never", 0, ""))
	r.expect(NoAssignment, 9000, endOf("never", 7, ""))
}

func TestAStaleEndSparesTheNextAssignment(t *testing.T) {
	r := fleet(t)
	r.must(5000, assign("m", 7))
	next := assign("m", 8)
	next.ExpectToken = token(7)
	live := r.must(6000, next).Assignment
	r.expect(Fenced, 6000, endOf("m", 7, "late"))
	if r.state().LiveAssignment(meetingKey("m")) != live {
		t.Error("the end of the assignment before ended this one")
	}
}

func TestRegionsEndSeparately(t *testing.T) {
	r := fleet(t)
	r.must(5000, assign("m", 7))
	us := assign("m", 7)
	us.Region = "us"
	r.must(5000, us)
	r.must(6000, endOf("m", 0, "done"))
	if live := r.state().LiveAssignment(MeetingKey{Region: "us", MeetingID: "m"}); live == nil {
		t.Error("the end in one region ended the meeting in another")
	}
	if last := r.state().LastEnded(MeetingKey{Region: "us", MeetingID: "m"}); last != nil {
		t.Errorf("ended in the other region: %+v", last)
	}
	checkInvariants(t, r.state())
}

func TestEndBeforeAnyStampDoesNotLookLive(t *testing.T) {
	r := newReplica(t)
	r.must(0, assign("m", 1))
	if e := r.must(0, endOf("m", 1, "")).Assignment; e.Live() {
		t.Errorf("%+v looks live", e)
	}
	checkInvariants(t, restored(t, r.state()))
}

func TestReconfirm(t *testing.T) {
	reconfirm := func(n, incarnation uint64) *commandv1.Reconfirm {
		return &commandv1.Reconfirm{Region: "eu", MeetingId: "m", FencingToken: token(n), McIncarnation: incarnation}
	}
	r := fleet(t)
	r.expect(Conflict, 5000, reconfirm(7, 20))
	before := r.must(5000, assign("m", 7)).Assignment
	if got := r.expect(Conflict, 5000, reconfirm(6, 20)).Assignment; got != before {
		t.Errorf("refused with %+v, want what stands", got)
	}
	got := r.must(6000, reconfirm(7, 20)).Assignment
	want := *before
	want.MCIncarnation = 20
	want.sum = want.digest()
	if !reflect.DeepEqual(got, &want) || before.MCIncarnation != 1 {
		t.Errorf("reconfirmed\n%+v, want only the incarnation changed:\n%+v", got, want)
	}
	if got := r.must(6000, reconfirm(7, 19)).Assignment; got.MCIncarnation != 20 {
		t.Errorf("a late reconfirmation put the incarnation back to %d", got.MCIncarnation)
	}
	if got := inFlight(r); got != [3]uint32{1, 1, 1} {
		t.Errorf("in flight %v: a reconfirmation is not a placement", got)
	}
	r.must(7000, endOf("m", 7, "done"))
	if got := r.expect(Conflict, 7000, reconfirm(7, 21)).Assignment; got != nil {
		t.Errorf("an ended meeting was reconfirmed: %+v", got)
	}
	checkInvariants(t, r.state())
}

func TestPruneIsBoundedAndTakesTheOldest(t *testing.T) {
	r := fleet(t)
	for i := range 5 { // m-4 ends first, m-0 last
		r.must(1000, assign(fmt.Sprintf("m-%d", i), 1))
	}
	r.must(1000, assign("live", 1))
	for i := range 5 {
		r.must(int64(2000+i*1000), endOf(fmt.Sprintf("m-%d", 4-i), 1, ""))
	}
	prune := func(before int64, limit uint32, want int, left ...string) {
		t.Helper()
		if got := r.must(9000, &commandv1.PruneEnded{BeforeUnixMs: before, Limit: limit}).Count; got != want {
			t.Errorf("pruned %d, want %d", got, want)
		}
		var got []string
		r.state().Assignments(Cursor{}, "", "", true, func(a *Assignment) bool {
			got = append(got, a.MeetingID)
			return true
		})
		if want := append([]string{"live"}, left...); !reflect.DeepEqual(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
		checkInvariants(t, r.state())
	}
	all := []string{"m-0", "m-1", "m-2", "m-3", "m-4"}
	prune(2000, 10, 0, all...) // m-4 ended at 2000, not before
	prune(5000, 0, 0, all...)
	prune(5000, 2, 2, all[:3]...)
	if !r.state().EndedBefore(4001) || r.state().EndedBefore(4000) {
		t.Error("the oldest ended at 4000")
	}
	prune(5000, 2, 1, all[:2]...)
	prune(99_000, 10, 2)
	if r.state().EndedBefore(1 << 60) {
		t.Error("nothing ended is left")
	}
}

// A controller that registered again may serve elsewhere: joiners are sent to where it is now.
func TestReconfirmTakesTheNewEndpoints(t *testing.T) {
	r := fleet(t)
	before := r.must(5000, assign("m", 7)).Assignment
	moved := r.must(5000, &commandv1.RegisterNode{
		Kind: MeetingController, Id: before.MCID, Region: "eu", Capacity: 10, RegistrationId: 99,
		GrpcEndpoint: "http://moved:1", WebtransportEndpoint: "https://moved:2",
	}).Node
	got := r.must(6000, &commandv1.Reconfirm{
		Region: "eu", MeetingId: "m", FencingToken: token(7), McIncarnation: moved.Incarnation,
	}).Assignment
	if got.MCGRPCEndpoint != "http://moved:1" || got.MCWebTransportEndpoint != "https://moved:2" {
		t.Errorf("reconfirmed at %s and %s, where the controller was", got.MCGRPCEndpoint, got.MCWebTransportEndpoint)
	}
}
