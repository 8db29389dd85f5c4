package fsm

import "testing"

// An end that is sent again, its answer having been lost, is told that it did what it did, though
// the meeting lives again by then. Anybody else who names the old token is fenced.
func TestAnEndSentAgainKnowsWhatItEnded(t *testing.T) {
	r := fleet(t)
	r.must(1000, assign("m", 1))
	end := endOf("m", 1, "over")
	end.RequestId = 7
	r.must(2000, end)
	r.must(3000, assign("m", 2))
	before := r.state().Hash()

	again := r.must(3000, end).Assignment
	if again == nil || again.Token != token(1) || again.EndReason != "over" {
		t.Errorf("the end sent again was told of %+v", again)
	}
	other := endOf("m", 1, "over")
	other.RequestId = 8
	r.expect(Fenced, 3000, other)
	r.expect(Fenced, 3000, endOf("m", 1, "over"))
	if got := r.state().Hash(); got != before {
		t.Error("ends of what had ended changed the state")
	}
	if live := r.state().LiveAssignment(meetingKey("m")); live == nil || live.Token != token(2) {
		t.Errorf("live is %+v, want token 2", live)
	}
	checkInvariants(t, restored(t, r.state()))
}

// An assignment names the call that made it, and when it has ended the one that ended it.
func TestAnAssignmentNamesItsCalls(t *testing.T) {
	r := fleet(t)
	join := assign("m", 1)
	join.RequestId = 7
	r.must(1000, join)
	if live := restored(t, r.state()).LiveAssignment(meetingKey("m")); live == nil || live.Request != 7 {
		t.Errorf("live is %+v, want the request 7", live)
	}
	end := endOf("m", 1, "over")
	end.RequestId = 8
	r.must(2000, end)
	if ended := restored(t, r.state()).Ended(meetingKey("m"), token(1)); ended == nil || ended.Request != 8 {
		t.Errorf("ended is %+v, want the request 8", ended)
	}
	r.must(3000, assign("m", 2))
	if live := r.state().LiveAssignment(meetingKey("m")); live.Request != 0 {
		t.Errorf("a call without a name is called %d", live.Request)
	}
	checkInvariants(t, r.state())
}

// Reports of one node that come through several replicas are told apart by replica: one that is
// sent again after another replica's has no effect.
func TestReportsThroughSeveralReplicas(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "mh", 1))
	for session := uint64(1); session <= maxSessions; session++ {
		r.must(2000, streamed(session, 10, uint32(session)))
	}
	for session := uint64(1); session <= maxSessions; session++ {
		r.expect(Repeated, 3000, streamed(session, 10, 99))
	}
	if used := r.node(MediaHandler, "mh").Used; used != maxSessions {
		t.Errorf("%d used, want what the last new report said: %d", used, maxSessions)
	}
	r.must(4000, streamed(1, 11, 50))            // the first session is the latest now
	r.must(5000, streamed(maxSessions+1, 1, 60)) // the longest unheard makes room
	r.expect(Repeated, 6000, streamed(1, 11, 50))
	checkInvariants(t, restored(t, r.state()))
}
