package fsm

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// failer is what the helpers below need of a *testing.T, a *testing.F or a *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// replica feeds a Machine as Raft would: every entry has the next index.
type replica struct {
	failer
	machine     *Machine
	index, term uint64
}

func newReplica(t failer) *replica {
	return &replica{failer: t, machine: NewMachine(nil), term: 1}
}

// apply applies one entry with these commands and returns their results.
func (r *replica) apply(stampMs int64, ops ...proto.Message) []Result {
	r.Helper()
	r.index++
	results, err := r.machine.Apply([]Entry{encodedEntry(r, r.index, r.term, stampMs, ops...)})
	if err != nil {
		r.Fatalf("apply entry %d: %v", r.index, err)
	}
	return results[0]
}

// must applies one command that has to take effect.
func (r *replica) must(stampMs int64, op proto.Message) Result {
	r.Helper()
	return r.expect(Applied, stampMs, op)
}

// expect applies one command that has to have this outcome.
func (r *replica) expect(want Outcome, stampMs int64, op proto.Message) Result {
	r.Helper()
	result := r.apply(stampMs, op)[0]
	if result.Outcome != want {
		r.Fatalf("%T %v: outcome %d, want %d", op, op, result.Outcome, want)
	}
	return result
}

// state is the state of the machine, for tests that run alone.
func (r *replica) state() *State { return r.machine.state }

func (r *replica) node(kind Kind, id string) *Node {
	r.Helper()
	n := r.state().Node(kind, id)
	if n == nil {
		r.Fatalf("%v %q is not registered", kind, id)
	}
	return n
}

func encodedEntry(t failer, index, term uint64, stampMs int64, ops ...proto.Message) Entry {
	t.Helper()
	entry := &commandv1.Entry{StampUnixMs: stampMs}
	for _, op := range ops {
		entry.Commands = append(entry.Commands, command(op))
	}
	data, err := EncodeEntry(entry)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return Entry{Index: index, Term: term, Data: data}
}

// command wraps an operation as entries carry it.
func command(op proto.Message) *commandv1.Command {
	c := new(commandv1.Command)
	m := c.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fields.Get(i).Message().FullName() == op.ProtoReflect().Descriptor().FullName() {
			m.Set(fields.Get(i), protoreflect.ValueOfMessage(op.ProtoReflect()))
		}
	}
	return c
}

// written is the snapshot of a state. Two states with the same bytes have the same records.
func written(t failer, s *State) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := WriteSnapshot(&buf, s); err != nil {
		t.Fatalf("%v", err)
	}
	return buf.Bytes()
}

// restored is the state read back from its snapshot.
func restored(t failer, s *State) *State {
	t.Helper()
	again, err := ReadSnapshot(bytes.NewReader(written(t, s)))
	if err != nil {
		t.Fatalf("read back a snapshot: %v", err)
	}
	return again
}

func TestStateTimeNeverRunsBackwards(t *testing.T) {
	r := newReplica(t)
	r.must(5000, register(MediaHandler, "mh-1", 1))
	result := r.must(3000, register(MediaHandler, "mh-2", 2))
	if got := r.state().TimeMs(); got != 5000 {
		t.Errorf("state time is %d after stamps 5000 and 3000, want 5000", got)
	}
	if got := result.Node.RegisteredAtMs; got != 5000 {
		t.Errorf("registered at %d under state time 5000", got)
	}
	if result.StampMs != 3000 || result.Index != 2 {
		t.Errorf("the result has stamp %d and index %d, want the entry's own 3000 and 2", result.StampMs, result.Index)
	}
}

func TestEntriesWithoutCommandsMoveTheIndexOnly(t *testing.T) {
	m := NewMachine(nil)
	before := m.Snapshot().Hash()
	results, err := m.Apply([]Entry{{Index: 7, Term: 3}})
	if err != nil || len(results) != 1 || results[0] != nil {
		t.Fatalf("got %v, %v", results, err)
	}
	m.View(func(s *State) {
		if s.Index() != 7 || s.Term() != 3 || s.Hash() != before {
			t.Errorf("index %d, term %d, hash %s; want 7, 3, %s", s.Index(), s.Term(), s.Hash(), before)
		}
	})
}

func TestApplyStopsBeforeAnEntryThatItDoesNotKnow(t *testing.T) {
	m := NewMachine(nil)
	first := encodedEntry(t, 1, 1, 1000, register(MediaHandler, "before", 1))
	unknown := Entry{Index: 2, Term: 1, Data: []byte{0x12, 0x03, 0xa2, 0x06, 0x00}} // a command with field 100
	third := encodedEntry(t, 3, 1, 1000, register(MediaHandler, "after", 2))
	results, err := m.Apply([]Entry{first, unknown, third})
	if !errors.Is(err, ErrUnknownCommand) {
		t.Fatalf("error %v, want ErrUnknownCommand", err)
	}
	if len(results) == 0 || len(results[0]) != 1 {
		t.Errorf("the entry before has results %v", results)
	}
	if m.Index() != 1 || m.state.Node(MediaHandler, "before") == nil || m.state.Node(MediaHandler, "after") != nil {
		t.Errorf("index %d: what precedes must be applied, and nothing behind", m.Index())
	}
}

func TestLeadAndAnnounce(t *testing.T) {
	r := newReplica(t)
	r.apply(1000,
		&commandv1.Lead{NodeId: "gc-2", Term: 4},
		&commandv1.AnnounceMember{NodeId: "gc-1", GrpcAddress: "10.0.0.1:50051", CommandVersion: 1},
		&commandv1.AnnounceMember{NodeId: "gc-1", GrpcAddress: "10.0.0.2:50051", CommandVersion: 2})
	if got := r.state().Leader(); got != "gc-2" {
		t.Errorf("leader %q, want gc-2", got)
	}
	m := r.state().Member("gc-1")
	if m == nil || m.GRPCAddress != "10.0.0.2:50051" || m.CommandVersion != 2 {
		t.Errorf("member %+v, want what it announced last", m)
	}
	if r.state().Member("gc-3") != nil {
		t.Error("a member that never announced itself is there")
	}
	checkInvariants(t, r.state())
}

// mirror is an Observer that keeps its own table.
type mirror struct {
	nodes  map[CensusKey]*Node // by kind and, in place of the region, id
	resets int
}

func mirrorKey(n *Node) CensusKey { return CensusKey{Kind: n.Kind, Region: n.ID} }

func (m *mirror) NodeChanged(n *Node) { m.nodes[mirrorKey(n)] = n }

func (m *mirror) Reset(s *State) {
	m.resets++
	m.nodes = nodesOf(s)
}

func nodesOf(s *State) map[CensusKey]*Node {
	nodes := make(map[CensusKey]*Node)
	for _, kind := range []Kind{MediaHandler, MeetingController} {
		s.Nodes(kind, "", func(n *Node) bool {
			nodes[mirrorKey(n)] = n
			return true
		})
	}
	return nodes
}

func TestRestoreResetsTheObserver(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "mh-1", 1))
	seen := &mirror{nodes: make(map[CensusKey]*Node)}
	m := NewMachine(seen)
	if err := m.Restore(bytes.NewReader([]byte("no snapshot"))); !errors.Is(err, ErrDamagedSnapshot) {
		t.Errorf("restore of garbage: %v", err)
	}
	if seen.resets != 0 {
		t.Error("a failed restore told the observer")
	}
	if err := m.Restore(bytes.NewReader(written(t, r.machine.Snapshot()))); err != nil {
		t.Fatal(err)
	}
	if seen.resets != 1 || len(seen.nodes) != 1 || m.Index() != 1 {
		t.Errorf("%d resets, %d nodes, index %d; want 1 of each", seen.resets, len(seen.nodes), m.Index())
	}
}
