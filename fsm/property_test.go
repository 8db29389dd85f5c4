package fsm

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choose := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "choice") }
		checkReplicasAgree(t, choose, choose(60))
	})
}

// A B-tree of a few records is one node. Here there are thousands, so that a snapshot and the
// state share inner nodes while these split and merge.
func TestLargeReplicasAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := newHistory(random.IntN)
	h.meetings = 2000
	m := NewMachine(nil)
	var log []Entry
	var kept []keptSnapshot
	for i := range 20_000 {
		entry := h.next(t, m.state)
		log = append(log, entry)
		applyAll(t, m, entry)
		if i%3000 == 500 {
			kept = append(kept, keep(t, m))
		}
	}
	checkInvariants(t, m.state)
	if counts := m.state.Counts(); counts.LiveAssignments < 1000 || counts.EndedAssignments < 1000 {
		t.Fatalf("%+v is not the size this test is for", counts)
	}
	for _, k := range kept {
		k.check(t)
	}
	other := NewMachine(nil)
	if err := other.Restore(bytes.NewReader(kept[2].bytes)); err != nil {
		t.Fatal(err)
	}
	applyAll(t, other, log[kept[2].state.Index():]...)
	if !bytes.Equal(written(t, m.Snapshot()), written(t, other.Snapshot())) {
		t.Error("a replica that began from a snapshot differs from one that replayed the log")
	}
}

// checkReplicasAgree lets one replica apply a made-up log entry by entry, and another apply it
// in batches with a restart from a snapshot in the middle.
func checkReplicasAgree(t failer, choose chooser, length int) {
	t.Helper()
	h := newHistory(choose)
	seen := &mirror{nodes: make(map[CensusKey]*Node)}
	first := NewMachine(seen)
	tokens := make(tokenWatch)
	var log []Entry
	var kept keptSnapshot
	snapshotAt := choose(length + 1)
	for i := range length {
		if i == snapshotAt {
			kept = keep(t, first)
		}
		entry := h.next(t, first.state)
		log = append(log, entry)
		results := applyAll(t, first, entry)
		checkInvariants(t, first.state)
		tokens.check(t, first.state, results[0])
		if !maps.Equal(seen.nodes, nodesOf(first.state)) {
			t.Fatalf("entry %d: the observer saw other nodes than there are", entry.Index)
		}
	}
	if kept.state != nil {
		kept.check(t)
	}
	second := applyInBatches(t, choose, log, snapshotAt)
	checkInvariants(t, second.state)
	if first.state.Hash() != second.state.Hash() || !bytes.Equal(written(t, first.Snapshot()), written(t, second.Snapshot())) {
		t.Fatalf("state hash %s after replay, %s after restarting from a snapshot", first.state.Hash(), second.state.Hash())
	}
}

// applyInBatches also restarts from a snapshot, between two batches at or behind an entry.
func applyInBatches(t failer, choose chooser, log []Entry, restartAt int) *Machine {
	t.Helper()
	m := NewMachine(nil)
	for done := 0; done < len(log); {
		if done >= restartAt {
			next := NewMachine(nil)
			if err := next.Restore(bytes.NewReader(written(t, m.Snapshot()))); err != nil {
				t.Fatalf("restore: %v", err)
			}
			if next.state.Hash() != m.state.Hash() || next.Index() != m.Index() || next.state.Term() != m.state.Term() {
				t.Fatalf("a restored state differs from the one that was written")
			}
			checkInvariants(t, next.state)
			m, restartAt = next, len(log)
		}
		size := 1 + choose(min(8, len(log)-done))
		applyAll(t, m, log[done:done+size]...)
		done += size
	}
	return m
}

func applyAll(t failer, m *Machine, entries ...Entry) [][]Result {
	t.Helper()
	results, err := m.Apply(entries)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return results
}

// keptSnapshot is a state that Machine.Snapshot returned, and what it was then.
type keptSnapshot struct {
	state *State
	bytes []byte
	hash  string
}

func keep(t failer, m *Machine) keptSnapshot {
	t.Helper()
	s := m.Snapshot()
	return keptSnapshot{state: s, bytes: written(t, s), hash: s.Hash()}
}

func (k keptSnapshot) check(t failer) {
	t.Helper()
	checkInvariants(t, k.state)
	if k.state.Hash() != k.hash || !bytes.Equal(written(t, k.state), k.bytes) {
		t.Fatalf("the snapshot at index %d was changed by later entries", k.state.Index())
	}
}

// tokenWatch is the greatest token that each meeting was seen to have.
type tokenWatch map[MeetingKey]uint64

// check holds that the tokens of a meeting only rise, be it by one entry or by many.
func (w tokenWatch) check(t failer, s *State, results []Result) {
	t.Helper()
	for _, r := range results {
		if r.Outcome != Applied || r.Assignment == nil || !r.Assignment.Live() {
			continue
		}
		if a := r.Assignment; a.Token < w[a.MeetingKey] {
			t.Fatalf("%v was given token %d after %d", a.MeetingKey, a.Token, w[a.MeetingKey])
		}
		w[r.Assignment.MeetingKey] = r.Assignment.Token
	}
	byKey := make(map[MeetingKey]uint64)
	for _, a := range everyAssignment(s) { // by token within a meeting
		if a.Token <= byKey[a.MeetingKey] {
			t.Fatalf("%v has token %d twice", a.MeetingKey, a.Token)
		}
		byKey[a.MeetingKey] = a.Token
	}
	for key := range w {
		if _, kept := byKey[key]; !kept {
			delete(w, key) // pruned: only its leader's counter keeps its tokens rising now
		}
	}
}
