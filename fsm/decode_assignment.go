package fsm

import (
	"math"
	"strings"
)

// Nearly all of a snapshot is live assignments, and a replica that starts reads every one of them
// before it is ready. They are read here as load reports are.

// The tags of a snapshot's record, its assignment and that one's media handlers.
const (
	tagAssignment = 4<<3 | wireBytes

	tagMeetingID              = 1<<3 | wireBytes
	tagRegion                 = 2<<3 | wireBytes
	tagToken                  = 3<<3 | wireVarint
	tagMCID                   = 4<<3 | wireBytes
	tagMCIncarnation          = 5<<3 | wireVarint
	tagMCGRPCEndpoint         = 6<<3 | wireBytes
	tagMCWebTransportEndpoint = 7<<3 | wireBytes
	tagMediaHandler           = 8<<3 | wireBytes
	tagAssignedBy             = 9<<3 | wireBytes
	tagAssignedAt             = 10<<3 | wireVarint
	tagEndedAt                = 11<<3 | wireVarint
	tagEndReason              = 12<<3 | wireBytes
	tagRequest                = 13<<3 | wireFixed64

	tagMHID                   = 1<<3 | wireBytes
	tagMHWebTransportEndpoint = 2<<3 | wireBytes
	tagMHGRPCEndpoint         = 3<<3 | wireBytes
)

// mostMediaHandlers is how many an assignment has: a primary and a backup.
const mostMediaHandlers = 2

// decodeAssignmentQuickly decodes a record of a snapshot if it is an assignment as WriteSnapshot may have
// written it; nil if not. The strings that it may share with nodes are parts of one, for shareStrings.
func decodeAssignmentQuickly(data []byte) *Assignment {
	record := reader{data: data, text: string(data)}
	if record.next() != tagAssignment {
		return nil
	}
	r := record.nested()
	if record.more() || record.failed {
		return nil
	}
	a := &Assignment{MediaHandlers: make([]MediaHandlerRef, 0, mostMediaHandlers)}
	for r.more() {
		if !a.decodeField(r.next(), &r) {
			return nil
		}
	}
	if r.failed {
		return nil
	}
	return a
}

func (a *Assignment) decodeField(tag byte, r *reader) bool {
	switch tag {
	case tagMeetingID:
		a.MeetingID = strings.Clone(r.string())
	case tagRegion:
		a.Region = r.string()
	case tagToken:
		a.Token = r.varint(math.MaxUint64)
	case tagMCID:
		a.MCID = r.string()
	case tagMCIncarnation:
		a.MCIncarnation = r.varint(math.MaxUint64)
	case tagMCGRPCEndpoint:
		a.MCGRPCEndpoint = r.string()
	case tagMCWebTransportEndpoint:
		a.MCWebTransportEndpoint = r.string()
	case tagMediaHandler:
		ref, ok := decodeMediaHandlerRef(r.nested())
		a.MediaHandlers = append(a.MediaHandlers, ref)
		return ok
	case tagAssignedBy:
		a.AssignedBy = r.string()
	case tagAssignedAt:
		a.AssignedAtMs = int64(r.varint(math.MaxUint64))
	case tagEndedAt:
		a.EndedAtMs = int64(r.varint(math.MaxUint64))
	case tagEndReason:
		a.EndReason = strings.Clone(r.string())
	case tagRequest:
		a.Request = r.fixed64()
	default:
		return false
	}
	return true
}

func decodeMediaHandlerRef(r reader) (ref MediaHandlerRef, ok bool) {
	for r.more() {
		switch r.next() {
		case tagMHID:
			ref.ID = r.string()
		case tagMHWebTransportEndpoint:
			ref.WebTransportEndpoint = r.string()
		case tagMHGRPCEndpoint:
			ref.GRPCEndpoint = r.string()
		default:
			return ref, false
		}
	}
	return ref, !r.failed
}
