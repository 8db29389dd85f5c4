package fsm

import (
	"encoding/binary"
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Nearly all of a log is load reports, and every replica decodes every one of them. Those that
// are written as EncodeEntry writes them are read here, for a fraction of what the general
// decoder takes. That one reads all others, and says what is wrong with them.

// ReportCommand is the messages of one command that reports a load, side by side, so that those
// of many commands are allocated together.
type ReportCommand struct {
	Report  commandv1.ReportLoad
	Usage   commandv1.Usage
	command commandv1.Command
	op      commandv1.Command_ReportLoad
}

// Command puts the messages together. Usage is part of it only if Report says so.
func (c *ReportCommand) Command() *commandv1.Command {
	c.op.ReportLoad = &c.Report
	c.command.Op = &c.op
	return &c.command
}

// slabSize is how many ReportCommands are allocated together: beyond 32 kB that costs more.
const slabSize = 128

// The tags of an entry, a command, a report and its usage, each a byte: field number and type.
const (
	wireVarint, wireFixed64, wireBytes, wireFixed32 = 0, 1, 2, 5

	tagStamp   = 1<<3 | wireVarint
	tagCommand = 2<<3 | wireBytes
	tagReport  = 4<<3 | wireBytes

	tagKind      = 1<<3 | wireVarint
	tagID        = 2<<3 | wireBytes
	tagHealth    = 3<<3 | wireVarint
	tagUsage     = 4<<3 | wireBytes
	tagCPU       = 5<<3 | wireFixed32
	tagMemory    = 6<<3 | wireFixed32
	tagBandwidth = 7<<3 | wireFixed32
	tagSession   = 8<<3 | wireFixed64
	tagSequence  = 9<<3 | wireVarint

	tagUsed            = 1<<3 | wireVarint
	tagCapacity        = 2<<3 | wireVarint
	tagParticipants    = 3<<3 | wireVarint
	tagMaxParticipants = 4<<3 | wireVarint
)

// decodeQuickly decodes an entry if EncodeEntry may have written it; nil if not, or if any
// command is not known.
func decodeQuickly(data []byte) *commandv1.Entry {
	r := reader{data: data, text: string(data)} // every id is a part of that one string
	e := new(commandv1.Entry)
	if r.tag() == tagStamp {
		r.at++
		e.StampUnixMs = int64(r.varint(math.MaxUint64))
	}
	var slab []ReportCommand
	for r.more() {
		if r.next() != tagCommand {
			return nil
		}
		one := r.nested()
		if one.tag() != tagReport {
			cmd := new(commandv1.Command)
			if proto.Unmarshal(one.data[one.at:], cmd) != nil || CheckKnown(cmd) != nil {
				return nil
			}
			e.Commands = append(e.Commands, cmd)
			continue
		}
		if len(slab) == 0 {
			left := 1 + (len(data)-r.at)/(len(one.data)-one.at) // if they are alike
			slab = make([]ReportCommand, min(slabSize, left))
			e.Commands = slices.Grow(e.Commands, left)
		}
		if !slab[0].decode(one) {
			return nil
		}
		e.Commands = append(e.Commands, slab[0].Command())
		slab = slab[1:]
	}
	if r.failed {
		return nil
	}
	return e
}

// decode reads a command that is a report. False: it is not as EncodeEntry writes it.
func (c *ReportCommand) decode(r reader) bool {
	r.at++
	fields := r.nested()
	return !r.more() && !r.failed && c.decodeFields(fields)
}

func (c *ReportCommand) decodeFields(r reader) bool {
	report := &c.Report
	for r.more() {
		switch r.next() {
		case tagKind:
			report.Kind = Kind(r.varint(math.MaxInt32))
		case tagID:
			report.Id = r.string()
		case tagHealth:
			report.Health = Health(r.varint(math.MaxInt32))
		case tagUsage:
			report.Usage = &c.Usage
			r.failed = r.failed || !decodeUsage(r.nested(), &c.Usage)
		case tagCPU:
			report.CpuPercent = r.float()
		case tagMemory:
			report.MemoryPercent = r.float()
		case tagBandwidth:
			report.BandwidthPercent = r.float()
		case tagSession:
			report.Session = r.fixed64()
		case tagSequence:
			report.Sequence = r.varint(math.MaxUint64)
		default:
			return false
		}
	}
	return !r.failed && knownKind(report.Kind) && knownHealth(report.Health)
}

func decodeUsage(r reader, usage *commandv1.Usage) bool {
	for r.more() {
		tag := r.next()
		count := uint32(r.varint(math.MaxUint32))
		switch tag {
		case tagUsed:
			usage.Used = count
		case tagCapacity:
			usage.Capacity = count
		case tagParticipants:
			usage.Participants = count
		case tagMaxParticipants:
			usage.MaxParticipants = count
		default:
			return false
		}
	}
	return !r.failed
}

// reader reads the fields of one message. Once it has failed there is no more, and everything it
// returns is zero.
type reader struct {
	data   []byte // up to the end of the message
	text   string // the same bytes, or more
	at     int
	failed bool
}

func (r *reader) more() bool { return !r.failed && r.at < len(r.data) }

// tag looks at the next tag; 0 when there is none.
func (r *reader) tag() byte {
	if !r.more() {
		return 0
	}
	return r.data[r.at]
}

// next passes over the next tag, and returns it.
func (r *reader) next() byte {
	tag := r.tag()
	r.at++
	return tag
}

// take passes over n bytes and returns where they begin.
func (r *reader) take(n uint64) int {
	if r.failed || n > uint64(len(r.data)-r.at) {
		r.failed = true
		return r.at
	}
	begin := r.at
	r.at += int(n)
	return begin
}

func (r *reader) varint(limit uint64) uint64 {
	if r.more() && r.data[r.at] < 0x80 { // mostly
		r.at++
		return uint64(r.data[r.at-1])
	}
	if r.failed {
		return 0
	}
	v, n := binary.Uvarint(r.data[r.at:])
	if n <= 0 || v > limit {
		r.failed = true
		return 0
	}
	r.at += n
	return v
}

func (r *reader) float() float32 {
	if begin := r.take(4); !r.failed {
		return math.Float32frombits(binary.LittleEndian.Uint32(r.data[begin:]))
	}
	return 0
}

func (r *reader) fixed64() uint64 {
	if begin := r.take(8); !r.failed {
		return binary.LittleEndian.Uint64(r.data[begin:])
	}
	return 0
}

func (r *reader) string() string {
	begin := r.take(r.varint(math.MaxInt32))
	s := r.text[begin:r.at]
	r.failed = r.failed || !utf8.ValidString(s)
	return s
}

// nested returns the reader of a message in this one.
func (r *reader) nested() reader {
	begin := r.take(r.varint(math.MaxInt32))
	return reader{data: r.data[:r.at], text: r.text, at: begin, failed: r.failed}
}
