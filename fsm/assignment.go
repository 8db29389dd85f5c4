package fsm

import "cmp"

// MeetingKey names a meeting in a region: the unit that is assigned, fenced and ended.
type MeetingKey struct {
	Region    string
	MeetingID string
}

// Compare orders by region, then meeting.
func (k MeetingKey) Compare(o MeetingKey) int {
	return cmp.Or(cmp.Compare(k.Region, o.Region), cmp.Compare(k.MeetingID, o.MeetingID))
}

// MediaHandlerRef is a media handler as a meeting controller was told of it. The endpoints are
// those of the time of the assignment: they stay what the controller accepted.
type MediaHandlerRef struct {
	ID                   string
	WebTransportEndpoint string
	GRPCEndpoint         string
}

// Assignment is the fact that a meeting is hosted by an MC with these MHs. It is never changed:
// an update makes a new one.
type Assignment struct {
	MeetingKey
	// Token fences: it rises with every assignment of this meeting and region.
	Token uint64
	MCID  string
	// MCIncarnation is the registration of the MC under which it accepted.
	MCIncarnation          uint64
	MCGRPCEndpoint         string
	MCWebTransportEndpoint string
	// MediaHandlers are ranked: the primary first.
	MediaHandlers []MediaHandlerRef
	AssignedBy    string
	AssignedAtMs  int64
	// EndedAtMs is 0 while the assignment is live.
	EndedAtMs int64
	EndReason string
	// Request names the call that ended it or, while it is live, that made it; 0 when it was not told.
	Request uint64

	sum sum
}

// Live says whether the assignment has not ended.
func (a *Assignment) Live() bool { return a.EndedAtMs == 0 }

// byToken orders by region, meeting, token: a meeting's history in the order it happened.
func byToken(a, b *Assignment) bool {
	return cmp.Or(a.Compare(b.MeetingKey), cmp.Compare(a.Token, b.Token)) < 0
}

// byController orders by MC, then like byToken.
func byController(a, b *Assignment) bool {
	if c := cmp.Compare(a.MCID, b.MCID); c != 0 {
		return c < 0
	}
	return byToken(a, b)
}

// byEnd orders by the time of the end, then like byToken.
func byEnd(a, b *Assignment) bool {
	if c := cmp.Compare(a.EndedAtMs, b.EndedAtMs); c != 0 {
		return c < 0
	}
	return byToken(a, b)
}
