package fsm

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// reports are load reports of all sizes: with every field and with none.
func someReports() []*commandv1.Command {
	full := &commandv1.ReportLoad{
		Kind: MediaHandler, Id: "mh-1", Health: Draining, CpuPercent: 1.5, MemoryPercent: 100, BandwidthPercent: 0.25,
		Usage:   &commandv1.Usage{Used: 1, Capacity: 300, Participants: 1 << 31, MaxParticipants: 1<<32 - 1},
		Session: 1<<63 | 1, Sequence: 1<<64 - 1,
	}
	all := []*commandv1.Command{command(full), command(&commandv1.ReportLoad{Kind: MeetingController})}
	for i := range full.ProtoReflect().Descriptor().Fields().Len() {
		less := proto.Clone(full).(*commandv1.ReportLoad)
		if field := less.ProtoReflect().Descriptor().Fields().Get(i); field.Name() != "kind" {
			less.ProtoReflect().Clear(field)
		}
		all = append(all, command(less))
	}
	for i := range 300 {
		other := proto.Clone(full).(*commandv1.ReportLoad)
		other.Sequence = uint64(i)
		all = append(all, command(other))
	}
	return all
}

func TestEntriesAreDecodedQuickly(t *testing.T) {
	reports := someReports()
	for name, entry := range map[string]*commandv1.Entry{
		"nothing":           {},
		"a stamp":           {StampUnixMs: -5},
		"reports":           entryOf(reports...),
		"one report":        entryOf(reports[0]),
		"every command":     entryOf(everyCommand()...),
		"reports in others": entryOf(append(append(everyCommand(), reports...), everyCommand()...)...),
	} {
		data, err := EncodeEntry(entry)
		if err != nil {
			t.Fatal(err)
		}
		if got := decodeQuickly(data); !proto.Equal(got, entry) {
			t.Errorf("%s came back as %.300v", name, got)
		}
	}
}

// Whatever is done to the bytes of an entry, the quick decoder says what the general one says, or
// leaves it to that one.
func TestTheQuickDecoderSaysNothingElse(t *testing.T) {
	data, err := EncodeEntry(entryOf(someReports()[:4]...))
	if err != nil {
		t.Fatal(err)
	}
	check := func(data []byte) {
		got := decodeQuickly(data)
		if got == nil {
			return
		}
		if want, err := decodeAnything(data); err != nil || !proto.Equal(got, want) {
			t.Fatalf("%x was decoded as\n%.300v, the general decoder says\n%.300v, %v", data, got, want, err)
		}
	}
	everyDamage(data, check)
}

// everyDamage checks what may become of bytes: cut off at either end, and with another byte anywhere.
func everyDamage(data []byte, check func([]byte)) {
	for i := range data {
		check(data[:i])
		check(data[i:])
		spoilt := append([]byte(nil), data...)
		for b := range 256 {
			spoilt[i] = byte(b)
			check(spoilt)
		}
	}
}

// Whatever is done to the bytes of an assignment, the quick decoder says what the general one says, or
// leaves it to that one.
func TestAssignmentsAreDecodedQuickly(t *testing.T) {
	full := new(commandv1.Assignment)
	fillMessage(full.ProtoReflect())
	records := []*commandv1.Assignment{full, new(commandv1.Assignment)}
	for i := range full.ProtoReflect().Descriptor().Fields().Len() {
		less := proto.Clone(full).(*commandv1.Assignment)
		less.ProtoReflect().Clear(less.ProtoReflect().Descriptor().Fields().Get(i))
		records = append(records, less)
	}
	check := func(data []byte) (quick bool) {
		got := decodeAssignmentQuickly(data)
		if got == nil {
			return false
		}
		want := new(commandv1.SnapshotRecord)
		if err := proto.Unmarshal(data, want); err != nil || hasUnknown(want) || want.GetAssignment() == nil ||
			!reflect.DeepEqual(got, decodeAssignment(want.GetAssignment())) {
			t.Fatalf("%x was decoded as\n%+v, the general decoder says\n%v, %v", data, got, want, err)
		}
		return true
	}
	for _, record := range records {
		data, err := proto.Marshal(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Assignment{Assignment: record}})
		if err != nil {
			t.Fatal(err)
		}
		if !check(data) {
			t.Errorf("%v was left to the general decoder", record)
		}
		everyDamage(data, func(data []byte) { check(data) })
	}
}

func BenchmarkDecodeEntry(b *testing.B) {
	reports := someReports()
	data, err := EncodeEntry(entryOf(append(reports, reports...)[:512]...))
	if err != nil {
		b.Fatal(err)
	}
	for name, decode := range map[string]func([]byte) (*commandv1.Entry, error){"reports": DecodeEntry, "anything": decodeAnything} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(data); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*512), "ns/command")
		})
	}
}
