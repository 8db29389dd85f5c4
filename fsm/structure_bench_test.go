package fsm

import (
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/hashicorp/go-memdb"
	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Which structure should hold the state? BenchmarkStructure puts the same records, with the
// same index by meeting controller, into copy-on-write B-trees, into go-memdb (immutable radix
// trees) and into plain maps that a snapshot copies.

const (
	benchHandlers    = 100_000
	benchControllers = 1_000
	benchMeetings    = 1_000_000
)

// table is what a state structure must do.
type table interface {
	setNode(*Node)
	setLive(*Assignment)
	// snapshot returns the records as they are now. It is what holds up Apply.
	snapshot() iter.Seq[proto.Message]
}

func BenchmarkStructure(b *testing.B) {
	for _, structure := range []struct {
		name  string
		empty func() table
	}{{"btree", newTreeTable}, {"memdb", newMemdbTable}, {"map", newMapTable}} {
		b.Run(structure.name, func(b *testing.B) {
			before := heapInUse()
			nodes, meetings := benchRecords()
			records := heapInUse() - before
			t := structure.empty()
			for _, n := range nodes {
				t.setNode(n)
			}
			for _, a := range meetings {
				t.setLive(a)
			}
			overhead := float64(heapInUse()-before-records) / (benchHandlers + benchMeetings)
			b.Run("report", func(b *testing.B) {
				for b.Loop() {
					t.setNode(changedNode(nodes))
				}
				b.ReportMetric(overhead, "B-overhead/record")
			})
			b.Run("assign", func(b *testing.B) {
				for b.Loop() {
					t.setLive(changedMeeting(meetings))
				}
			})
			b.Run("snapshot", func(b *testing.B) {
				benchSnapshot(b, func() func() {
					records := t.snapshot()
					return func() { discard(records) }
				}, func() {
					t.setNode(changedNode(nodes))
					t.setLive(changedMeeting(meetings))
				})
			})
			runtime.KeepAlive(t)
		})
	}
}

// benchSnapshot takes one snapshot, whatever b.N is, and applies for as long as it is being
// written: writer, garbage collector and Apply share the CPUs.
func benchSnapshot(b *testing.B, snapshot func() (write func()), apply func()) {
	runtime.GC()
	start := time.Now()
	write := snapshot()
	pause := time.Since(start)
	var slowest, whole time.Duration
	done := make(chan struct{})
	go func() {
		defer close(done)
		start := time.Now()
		write()
		whole = time.Since(start)
	}()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			start := time.Now()
			apply()
			slowest = max(slowest, time.Since(start))
		}
	}
	b.ReportMetric(float64(pause.Nanoseconds())/1e3, "µs-pause")
	b.ReportMetric(float64(slowest.Nanoseconds())/1e3, "µs-slowest-apply")
	b.ReportMetric(whole.Seconds(), "s-writing")
	b.ReportMetric(0, "ns/op")
}

// discard encodes records as a snapshot does.
func discard(records iter.Seq[proto.Message]) {
	var buf []byte
	for r := range records {
		buf, _ = proto.MarshalOptions{}.MarshalAppend(buf[:0], r)
		_, _ = io.Discard.Write(buf)
	}
}

func heapInUse() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func benchMeetingKey(i int) MeetingKey {
	return MeetingKey{Region: "eu-west", MeetingID: fmt.Sprintf("meeting-%08x-%06d", uint32(i)*2654435761, i)}
}

// benchRecords returns the fleet and its meetings in the random order of their arrival.
func benchRecords() ([]*Node, []*Assignment) {
	nodes := make([]*Node, benchHandlers)
	for i := range nodes {
		id := benchHandler(i)
		nodes[i] = &Node{
			Kind: MediaHandler, ID: id, Region: "eu-west", Zone: "a", Capacity: 1000, Health: Healthy,
			GRPCEndpoint: "https://" + id + ".example:50051", WebTransportEndpoint: "https://" + id + ".example:4433",
		}
	}
	meetings := make([]*Assignment, benchMeetings)
	for i := range meetings {
		primary, backup := nodes[i%benchHandlers], nodes[(i*7+1)%benchHandlers]
		meetings[i] = &Assignment{
			MeetingKey: benchMeetingKey(i), Token: 1, MCID: benchController(i),
			MediaHandlers: []MediaHandlerRef{
				{primary.ID, primary.WebTransportEndpoint, primary.GRPCEndpoint},
				{backup.ID, backup.WebTransportEndpoint, backup.GRPCEndpoint},
			},
		}
	}
	return nodes, meetings
}

func benchHandler(i int) string { return fmt.Sprintf("mh-%06d", i) }

func benchController(i int) string { return fmt.Sprintf("mc-%04d", i%benchControllers) }

func changedNode(nodes []*Node) *Node {
	n := *nodes[rand.IntN(len(nodes))]
	n.Used++
	return &n
}

func changedMeeting(meetings []*Assignment) *Assignment {
	a := *meetings[rand.IntN(len(meetings))]
	a.Token++
	return &a
}

// treeTable is what State does.
type treeTable struct{ *State }

func newTreeTable() table { return treeTable{NewState()} }

func (t treeTable) setNode(n *Node) { t.mhs.Set(n.ID, n) }

func (t treeTable) setLive(a *Assignment) {
	if old, replaced := t.live.Set(liveItem{a.MeetingKey, a}); replaced {
		t.liveByMC.Delete(old.a)
	}
	t.liveByMC.Set(a)
}

func (t treeTable) snapshot() iter.Seq[proto.Message] {
	s := t.State.copy()
	return func(yield func(proto.Message) bool) {
		s.mhs.Scan(func(_ string, n *Node) bool { return yield(encodeNode(n)) })
		s.live.Scan(func(i liveItem) bool { return yield(encodeAssignment(new(commandv1.Assignment), i.a)) })
	}
}

// mapTable copies its tables for a snapshot; the index can be made again from them.
type mapTable struct {
	nodes map[string]*Node
	live  map[MeetingKey]*Assignment
	byMC  map[string]map[MeetingKey]*Assignment
}

func newMapTable() table {
	return &mapTable{make(map[string]*Node), make(map[MeetingKey]*Assignment), make(map[string]map[MeetingKey]*Assignment)}
}

func (t *mapTable) setNode(n *Node) { t.nodes[n.ID] = n }

func (t *mapTable) setLive(a *Assignment) {
	if old := t.live[a.MeetingKey]; old != nil {
		delete(t.byMC[old.MCID], a.MeetingKey)
	}
	t.live[a.MeetingKey] = a
	if t.byMC[a.MCID] == nil {
		t.byMC[a.MCID] = make(map[MeetingKey]*Assignment)
	}
	t.byMC[a.MCID][a.MeetingKey] = a
}

func (t *mapTable) snapshot() iter.Seq[proto.Message] {
	nodes, live := maps.Clone(t.nodes), maps.Clone(t.live)
	return func(yield func(proto.Message) bool) {
		for _, n := range nodes {
			if !yield(encodeNode(n)) {
				return
			}
		}
		for _, a := range live {
			if !yield(encodeAssignment(new(commandv1.Assignment), a)) {
				return
			}
		}
	}
}

// memdbTable commits a transaction for every record, as an entry of its own would.
type memdbTable struct{ db *memdb.MemDB }

func newMemdbTable() table {
	field := func(name string) *memdb.StringFieldIndex { return &memdb.StringFieldIndex{Field: name} }
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		"node": {Name: "node", Indexes: map[string]*memdb.IndexSchema{
			"id": {Name: "id", Unique: true, Indexer: field("ID")},
		}},
		"live": {Name: "live", Indexes: map[string]*memdb.IndexSchema{
			"id": {Name: "id", Unique: true, Indexer: &memdb.CompoundIndex{Indexes: []memdb.Indexer{field("Region"), field("MeetingID")}}},
			"mc": {Name: "mc", Indexer: field("MCID")},
		}},
	}})
	if err != nil {
		panic(err)
	}
	return memdbTable{db}
}

func (t memdbTable) insert(into string, record any) {
	txn := t.db.Txn(true)
	if err := txn.Insert(into, record); err != nil {
		panic(err)
	}
	txn.Commit()
}

func (t memdbTable) setNode(n *Node)       { t.insert("node", n) }
func (t memdbTable) setLive(a *Assignment) { t.insert("live", a) }

func (t memdbTable) snapshot() iter.Seq[proto.Message] {
	txn := t.db.Snapshot().Txn(false)
	return func(yield func(proto.Message) bool) {
		for _, from := range []string{"node", "live"} {
			records, err := txn.Get(from, "id")
			if err != nil {
				panic(err)
			}
			for r := records.Next(); r != nil; r = records.Next() {
				switch r := r.(type) {
				case *Node:
					if !yield(encodeNode(r)) {
						return
					}
				case *Assignment:
					if !yield(encodeAssignment(new(commandv1.Assignment), r)) {
						return
					}
				}
			}
		}
	}
}
