package fsm

import (
	"cmp"
	"strings"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// assign makes an assignment live, if the meeting still stands as it did when the leader chose.
func (a applier) assign(cmd *commandv1.Assign) Result {
	key := MeetingKey{Region: cmd.Region, MeetingID: cmd.MeetingId}
	live := a.LiveAssignment(key)
	if live != nil && live.Token == cmd.FencingToken && live.MCID == cmd.McId {
		return Result{Assignment: live} // the same entry again
	}
	// A token is good in the term it was drawn in only. A proposal that waited until its leader
	// had lost and regained the lead must not commit: by then the MC may have been told to drop it.
	if TokenTerm(cmd.FencingToken) != a.term ||
		a.lastToken(key, live) >= cmd.FencingToken || !a.asExpected(live, cmd) {
		return Result{Outcome: Conflict, Assignment: live}
	}
	if live != nil {
		a.endLive(live, cmd.ReplaceReason, 0)
	}
	next := a.newAssignment(key, cmd)
	a.setLive(next)
	a.place(next)
	return Result{Assignment: next}
}

// asExpected compares what the leader read with what stands.
func (a applier) asExpected(live *Assignment, cmd *commandv1.Assign) bool {
	if live == nil {
		return cmd.ExpectToken == 0
	}
	if live.Token != cmd.ExpectToken {
		return false
	}
	mc := a.Node(MeetingController, live.MCID)
	if mc == nil {
		return true
	}
	return (cmd.ExpectMcIncarnation == 0 || cmd.ExpectMcIncarnation == mc.Incarnation) &&
		(cmd.ExpectMcHeardIndex == 0 || cmd.ExpectMcHeardIndex == mc.HeardIndex)
}

// lastToken is the greatest token that a meeting is known to have had.
func (s *State) lastToken(key MeetingKey, live *Assignment) uint64 {
	if live != nil {
		return live.Token
	}
	if last := s.LastEnded(key); last != nil {
		return last.Token
	}
	return 0
}

// newAssignment shares strings with the records that have them already: a million assignments
// name a few thousand nodes.
func (a applier) newAssignment(key MeetingKey, cmd *commandv1.Assign) *Assignment {
	next := &Assignment{
		MeetingKey:             key,
		Token:                  cmd.FencingToken,
		MCID:                   cmd.McId,
		MCIncarnation:          cmd.McIncarnation,
		MCGRPCEndpoint:         cmd.McGrpcEndpoint,
		MCWebTransportEndpoint: cmd.McWebtransportEndpoint,
		MediaHandlers:          decodeMediaHandlers(cmd.MediaHandlers),
		AssignedBy:             cmd.AssignedBy,
		AssignedAtMs:           a.stampMs,
		Request:                cmd.RequestId,
	}
	a.shareStrings(next)
	return next
}

// shareStrings has an assignment share its strings with the records that have them too. The others may be
// parts of a longer one, which must not stay for them.
func (s *State) shareStrings(a *Assignment) {
	mc := cmp.Or(s.Node(MeetingController, a.MCID), nobody)
	share(&a.Region, mc.Region)
	share(&a.MCID, mc.ID)
	share(&a.MCGRPCEndpoint, mc.GRPCEndpoint)
	share(&a.MCWebTransportEndpoint, mc.WebTransportEndpoint)
	for i := range a.MediaHandlers {
		ref := &a.MediaHandlers[i]
		mh := cmp.Or(s.Node(MediaHandler, ref.ID), nobody)
		share(&ref.ID, mh.ID)
		share(&ref.WebTransportEndpoint, mh.WebTransportEndpoint)
		share(&ref.GRPCEndpoint, mh.GRPCEndpoint)
	}
	by := cmp.Or(s.Member(a.AssignedBy), noMember)
	share(&a.AssignedBy, by.ID)
}

// nobody and noMember have no strings to share.
var nobody, noMember = new(Node), new(Member)

// share makes a string the one that is kept already, if they are equal, or else one of its own.
func share(s *string, with string) {
	if *s == with {
		*s = with
	} else {
		*s = strings.Clone(*s)
	}
}

// place counts a new assignment on its nodes until their reports do.
func (a applier) place(as *Assignment) {
	a.eachNode(as, func(n *Node) *Node { return n.placed(as.AssignedAtMs / 1000) })
}

// eachNode updates the nodes of an assignment.
func (a applier) eachNode(as *Assignment, update func(*Node) *Node) {
	touch := func(kind Kind, id string) {
		if old := a.Node(kind, id); old != nil {
			if n := update(old); n != old {
				a.putNode(n)
			}
		}
	}
	touch(MeetingController, as.MCID)
	for _, mh := range as.MediaHandlers {
		touch(MediaHandler, mh.ID)
	}
}

// reconfirm records that an MC that registered again still hosts the meeting.
func (a applier) reconfirm(cmd *commandv1.Reconfirm) Result {
	live := a.LiveAssignment(MeetingKey{Region: cmd.Region, MeetingID: cmd.MeetingId})
	if live == nil || live.Token != cmd.FencingToken {
		return Result{Outcome: Conflict, Assignment: live}
	}
	next := *live
	next.MCIncarnation = max(live.MCIncarnation, cmd.McIncarnation)
	// The new registration comes with it: the controller may have moved.
	if mc := a.Node(MeetingController, live.MCID); mc != nil && mc.Incarnation == next.MCIncarnation {
		next.MCGRPCEndpoint, next.MCWebTransportEndpoint = mc.GRPCEndpoint, mc.WebTransportEndpoint
	}
	a.setLive(&next)
	return Result{Assignment: &next}
}

// end ends the live assignment that the token names, or whichever is live for token 0. Ending
// the same assignment twice ends it once.
func (a applier) end(cmd *commandv1.End) Result {
	key := MeetingKey{Region: cmd.Region, MeetingID: cmd.MeetingId}
	if ended := a.Ended(key, cmd.FencingToken); ended != nil && cmd.RequestId != 0 && ended.Request == cmd.RequestId {
		return Result{Assignment: ended} // the same end again, whatever has become of the meeting since
	}
	live := a.LiveAssignment(key)
	switch {
	case live == nil:
		last := a.LastEnded(key)
		switch {
		case last == nil || cmd.FencingToken == 0 || cmd.FencingToken > last.Token:
			return Result{Outcome: NoAssignment}
		case cmd.FencingToken < last.Token:
			return Result{Outcome: Fenced, Assignment: last}
		}
		return Result{Assignment: last}
	case cmd.FencingToken != 0 && cmd.FencingToken != live.Token:
		return Result{Outcome: Fenced, Assignment: live}
	}
	return Result{Assignment: a.endLive(live, cmd.Reason, cmd.RequestId)}
}

// endLive moves a live assignment to the ended ones.
func (a applier) endLive(live *Assignment, reason string, request uint64) *Assignment {
	a.dropLive(live)
	ended := *live
	// State time may still be 0 in a log without stamps; an end must not look live.
	ended.EndedAtMs, ended.EndReason, ended.Request = max(a.stampMs, 1), reason, request
	ended.sum = ended.digest()
	a.addEnded(&ended)
	a.eachNode(live, func(n *Node) *Node { return n.unplaced(live.AssignedAtMs / 1000) })
	return &ended
}

// prune forgets assignments that ended long ago, the oldest first and a bounded number at once.
func (a applier) prune(cmd *commandv1.PruneEnded) Result {
	var old []*Assignment
	a.endedByTime.Scan(func(e *Assignment) bool {
		if e.EndedAtMs >= cmd.BeforeUnixMs || len(old) >= int(cmd.Limit) {
			return false
		}
		old = append(old, e)
		return true
	})
	for _, e := range old {
		a.dropEnded(e)
	}
	return Result{Count: len(old)}
}

// EndedBefore says whether an assignment is kept that ended before a time (Unix milliseconds).
func (s *State) EndedBefore(unixMs int64) bool {
	oldest, ok := s.endedByTime.Min()
	return ok && oldest.EndedAtMs < unixMs
}
