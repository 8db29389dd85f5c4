package fsm

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// CommandVersion is the newest version of the commands that this binary understands. A new kind
// of command, or a new field in one, raises it.
const CommandVersion = 3

const (
	// SessionsSince is the command version that brought in numbers for reports and names for ends.
	SessionsSince = 2
	// NamedJoinsSince is the command version that brought in names for joins.
	NamedJoinsSince = 3
)

// Since returns the command version that brought in a kind of command. A leader proposes it
// only once every member has announced that version.
func Since(cmd *commandv1.Command) uint32 {
	switch {
	case cmd.GetAssign().GetRequestId() != 0:
		return NamedJoinsSince
	case cmd.GetReportLoad().GetSession() != 0 || cmd.GetEnd().GetRequestId() != 0:
		return SessionsSince
	}
	return 1
}

// ErrUnknownCommand says that a log entry was written by a newer version. The replica that
// meets one must stop: to skip it would be to diverge.
var ErrUnknownCommand = errors.New("the log holds a command that this version does not know; upgrade this replica")

// EncodeEntry encodes a log entry.
func EncodeEntry(e *commandv1.Entry) ([]byte, error) {
	data, err := proto.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode log entry: %w", err)
	}
	return data, nil
}

// DecodeEntry decodes a log entry. It fails with ErrUnknownCommand when any part of it, down to
// a single field, is not known.
func DecodeEntry(data []byte) (*commandv1.Entry, error) {
	if e := decodeQuickly(data); e != nil {
		return e, nil
	}
	return decodeAnything(data)
}

func decodeAnything(data []byte) (*commandv1.Entry, error) {
	e := new(commandv1.Entry)
	if err := proto.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("decode log entry: %w", err)
	}
	if hasUnknown(e) {
		return nil, ErrUnknownCommand
	}
	for _, cmd := range e.Commands {
		if err := CheckKnown(cmd); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// CheckKnown returns ErrUnknownCommand for a command that DecodeEntry would not take. What is not
// known must not get into the log: it would stop every replica, at every start.
func CheckKnown(cmd *commandv1.Command) error {
	known := !hasUnknown(cmd)
	switch op := cmd.Op.(type) {
	case *commandv1.Command_Lead:
		known = known && !hasUnknown(op.Lead)
	case *commandv1.Command_AnnounceMember:
		known = known && !hasUnknown(op.AnnounceMember)
	case *commandv1.Command_RegisterNode:
		known = known && !hasUnknown(op.RegisterNode) && knownKind(op.RegisterNode.Kind) &&
			knownDialect(op.RegisterNode.Dialect)
	case *commandv1.Command_ReportLoad:
		known = known && !hasUnknown(op.ReportLoad) && !hasUnknown(op.ReportLoad.GetUsage()) &&
			knownKind(op.ReportLoad.Kind) && knownHealth(op.ReportLoad.Health)
	case *commandv1.Command_MarkStale:
		known = known && !hasUnknown(op.MarkStale) && knownKind(op.MarkStale.Kind)
	case *commandv1.Command_Assign:
		known = known && !hasUnknown(op.Assign)
		for _, mh := range op.Assign.MediaHandlers {
			known = known && !hasUnknown(mh)
		}
	case *commandv1.Command_Reconfirm:
		known = known && !hasUnknown(op.Reconfirm)
	case *commandv1.Command_End:
		known = known && !hasUnknown(op.End)
	case *commandv1.Command_PruneEnded:
		known = known && !hasUnknown(op.PruneEnded)
	default:
		known = false
	}
	if !known {
		return ErrUnknownCommand
	}
	return nil
}

func hasUnknown(m proto.Message) bool {
	return len(m.ProtoReflect().GetUnknown()) > 0
}

// Enums are open and signed on the wire: both ends of the range must be looked at.

func knownKind(k Kind) bool       { return k == MediaHandler || k == MeetingController }
func knownHealth(h Health) bool   { return Pending <= h && h <= Draining }
func knownDialect(d Dialect) bool { return DialectV1 <= d && d <= DialectV0 }
