package fsm

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// chooser returns a number from 0 to n-1. Behind it are a property test's draws or the bytes
// of a fuzzer.
type chooser func(n int) int

// history makes up entries. Ids are few, so that commands meet; what a command expects is
// mostly what stands, so that many are accepted.
type history struct {
	choose     chooser
	term       uint64
	index      uint64
	stampMs    int64
	tokenCount uint64
	meetings   int
}

func newHistory(choose chooser) *history {
	return &history{choose: choose, term: 1, stampMs: 100_000, meetings: 4}
}

// next makes up an entry to follow the state.
func (h *history) next(t failer, s *State) Entry {
	h.index++
	if h.choose(16) == 0 { // a new leader, whose clock is another
		h.term++
		h.tokenCount = 0
		h.stampMs -= int64(h.choose(5000))
	}
	h.stampMs += int64(h.choose(4)) * 700
	if h.choose(24) == 0 {
		return Entry{Index: h.index, Term: h.term} // a change of the Raft configuration
	}
	ops := make([]proto.Message, h.choose(5))
	for i := range ops {
		ops[i] = h.op(s)
	}
	return encodedEntry(t, h.index, h.term, h.stampMs, ops...)
}

func (h *history) op(s *State) proto.Message {
	switch h.choose(16) {
	case 0:
		return &commandv1.Lead{NodeId: h.id("gc", 3), Term: h.term}
	case 1:
		return &commandv1.AnnounceMember{NodeId: h.id("gc", 3), GrpcAddress: h.id("10.0.0.", 3), CommandVersion: uint32(h.choose(CommandVersion + 1))}
	case 2, 3:
		return h.register()
	case 4, 5, 6:
		return h.report()
	case 7:
		kind, id := h.node()
		return &commandv1.MarkStale{Kind: kind, Id: id, HeardIndex: h.either(heardIndex(s, kind, id))}
	case 8, 9, 10, 11:
		return h.assign(s)
	case 12:
		key := h.meeting()
		return &commandv1.Reconfirm{Region: key.Region, MeetingId: key.MeetingID, FencingToken: h.either(liveToken(s, key)), McIncarnation: uint64(h.choose(50))}
	case 13, 14:
		key := h.meeting()
		return &commandv1.End{Region: key.Region, MeetingId: key.MeetingID, FencingToken: h.either(liveToken(s, key)), Reason: h.id("reason", 2), RequestId: uint64(h.choose(4))}
	default:
		return &commandv1.PruneEnded{BeforeUnixMs: h.stampMs - int64(h.choose(10))*1000, Limit: uint32(h.choose(4))}
	}
}

func (h *history) register() *commandv1.RegisterNode {
	kind, id := h.node()
	cmd := register(kind, id, uint64(h.choose(1000)))
	cmd.Region, cmd.Zone = h.id("region", 2), h.id("zone", 2)
	cmd.Dialect, cmd.Capacity = Dialect(h.choose(2)), uint32(h.choose(50))
	return cmd
}

func (h *history) report() *commandv1.ReportLoad {
	kind, id := h.node()
	cmd := &commandv1.ReportLoad{Kind: kind, Id: id, Health: Health(h.choose(5)), CpuPercent: float32(h.choose(100))}
	if h.choose(4) > 0 {
		cmd.Usage = &commandv1.Usage{Used: uint32(h.choose(50)), Capacity: uint32(h.choose(50)), Participants: uint32(h.choose(50))}
	}
	if h.choose(2) == 0 {
		cmd.Session, cmd.Sequence = uint64(1+h.choose(2)), uint64(1+h.choose(30))
	}
	return cmd
}

func (h *history) assign(s *State) *commandv1.Assign {
	key := h.meeting()
	cmd := assign(key.MeetingID, 0)
	cmd.Region, cmd.McId = key.Region, h.id("mc", 3)
	cmd.MediaHandlers = mediaHandlers(h.id("mh", 4), h.id("mh", 4))[:h.choose(3)]
	cmd.AssignedBy, cmd.ReplaceReason = h.id("gc", 3), h.id("reason", 2)
	if h.choose(8) > 0 { // else a token that was drawn before
		h.tokenCount++
	}
	cmd.FencingToken = h.term<<tokenCounterBits | h.tokenCount
	cmd.ExpectToken, cmd.RequestId = h.either(liveToken(s, key)), uint64(h.choose(4))
	if live := s.LiveAssignment(key); live != nil {
		cmd.ExpectMcHeardIndex = h.either(heardIndex(s, MeetingController, live.MCID))
	}
	return cmd
}

// either is mostly the number given, sometimes 0, sometimes wrong.
func (h *history) either(right uint64) uint64 {
	switch h.choose(8) {
	case 0:
		return 0
	case 1:
		return right + uint64(h.choose(3)) - 1
	default:
		return right
	}
}

func (h *history) node() (Kind, string) {
	if h.choose(2) == 0 {
		return MediaHandler, h.id("mh", 4)
	}
	return MeetingController, h.id("mc", 3)
}

func (h *history) meeting() MeetingKey {
	return MeetingKey{Region: h.id("region", 2), MeetingID: h.id("m", h.meetings)}
}

func (h *history) id(prefix string, n int) string { return fmt.Sprintf("%s-%d", prefix, h.choose(n)) }

func liveToken(s *State, key MeetingKey) uint64 {
	if live := s.LiveAssignment(key); live != nil {
		return live.Token
	}
	return 0
}

func heardIndex(s *State, kind Kind, id string) uint64 {
	if n := s.Node(kind, id); n != nil {
		return n.HeardIndex
	}
	return 0
}
