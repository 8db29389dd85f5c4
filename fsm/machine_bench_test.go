package fsm

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
)

// BenchmarkMachine is the whole state machine at full size: what an entry costs, what a
// snapshot holds up, and how long a restart takes.
func BenchmarkMachine(b *testing.B) {
	m, perMeeting := fullMachine(b)
	index := m.Index()
	apply := func(e Entry) {
		index++
		e.Index = index
		if _, err := m.Apply([]Entry{e}); err != nil {
			b.Fatal(err)
		}
	}
	next := benchMeetings
	newMeetings := func(n int) []Entry {
		entries := make([]Entry, n)
		for i := range entries {
			entries[i] = encodedEntry(b, 0, 1, 9000, benchAssign(next))
			next++
		}
		return entries
	}
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("report-%d", size), func(b *testing.B) {
			entries := benchReports(b, size)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				apply(entries[i%len(entries)])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/command")
		})
	}
	b.Run("assign", func(b *testing.B) {
		entries := newMeetings(b.N)
		b.ReportAllocs()
		b.ResetTimer()
		for _, e := range entries {
			apply(e)
		}
		b.ReportMetric(perMeeting, "B-heap/meeting")
	})
	b.Run("snapshot", func(b *testing.B) {
		reports := benchReports(b, 1)
		benchSnapshot(b, func() func() {
			s := m.Snapshot()
			return func() {
				if err := WriteSnapshot(io.Discard, s); err != nil {
					b.Error(err)
				}
			}
		}, func() { apply(reports[rand.IntN(len(reports))]) })
	})
	b.Run("restore", func(b *testing.B) {
		data := written(b, m.Snapshot())
		b.ResetTimer()
		if _, err := ReadSnapshot(bytes.NewReader(data)); err != nil { // once, whatever b.N is
			b.Fatal(err)
		}
		b.ReportMetric(b.Elapsed().Seconds(), "s-reading")
		b.ReportMetric(float64(len(data))/1e6, "MB")
		b.ReportMetric(0, "ns/op")
	})
}

// fullMachine is a machine at full size, and the bytes of heap that one meeting takes.
func fullMachine(b *testing.B) (*Machine, float64) {
	m := NewMachine(nil)
	fill := func(n int, op func(i int) proto.Message) {
		const entrySize = 500
		for from := 0; from < n; from += entrySize {
			ops := make([]proto.Message, 0, entrySize)
			for i := from; i < min(from+entrySize, n); i++ {
				ops = append(ops, op(i))
			}
			applyAll(b, m, encodedEntry(b, m.Index()+1, 1, 5000, ops...))
		}
	}
	fill(benchControllers, func(i int) proto.Message { return register(MeetingController, benchController(i), 1) })
	fill(benchHandlers, func(i int) proto.Message { return register(MediaHandler, benchHandler(i), 1) })
	fill(benchHandlers, func(i int) proto.Message { return report(MediaHandler, benchHandler(i), Healthy, 1) })
	before := heapInUse()
	fill(benchMeetings, func(i int) proto.Message { return benchAssign(i) })
	perMeeting := float64(heapInUse()-before) / benchMeetings
	if got := m.state.Counts(); got.LiveAssignments != benchMeetings || got.MediaHandlers != benchHandlers {
		b.Fatalf("filled to %+v", got)
	}
	return m, perMeeting
}

func benchAssign(i int) proto.Message {
	cmd := assign(benchMeetingKey(i).MeetingID, 1)
	cmd.McId = benchController(i)
	cmd.McGrpcEndpoint, cmd.McWebtransportEndpoint = "https://"+cmd.McId+":50051", "https://"+cmd.McId+":4433"
	cmd.MediaHandlers = mediaHandlers(benchHandler(i%benchHandlers), benchHandler((i*7+1)%benchHandlers))
	return cmd
}

// benchReports is a number of entries with reports of handlers drawn at random.
func benchReports(b *testing.B, size int) []Entry {
	entries := make([]Entry, 1000)
	for i := range entries {
		ops := make([]proto.Message, size)
		for j := range ops {
			ops[j] = report(MediaHandler, benchHandler(rand.IntN(benchHandlers)), Healthy, uint32(rand.IntN(1000)))
		}
		entries[i] = encodedEntry(b, 0, 1, 9000, ops...)
	}
	return entries
}
