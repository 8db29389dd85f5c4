package fsm

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// Readers must never see half an entry, nor a snapshot that moves: run with -race.
func TestReadersWhileEntriesAreApplied(t *testing.T) {
	m := NewMachine(nil)
	h := newHistory(rand.New(rand.NewPCG(7, 8)).IntN)
	h.meetings = 300
	for range 1500 { // enough for trees of several levels
		applyAll(t, m, h.next(t, m.state))
	}
	done := make(chan struct{})
	var readers sync.WaitGroup
	for _, read := range []func(){
		func() { m.View(func(s *State) { checkInvariants(t, s) }) },
		func() { m.View(func(s *State) { checkListing(t, s) }) },
		func() { checkListing(t, m.Snapshot()) },
		func() { checkDetached(t, m) },
	} {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					read()
				}
			}
		})
	}
	for range 250 {
		applyAll(t, m, h.next(t, m.state))
	}
	close(done)
	readers.Wait()
	checkInvariants(t, m.state)
}

func checkListing(t *testing.T, s *State) {
	live := 0
	s.Assignments(Cursor{}, "", "mc-1", false, func(a *Assignment) bool {
		live++
		if s.LiveAssignment(a.MeetingKey) != a {
			t.Errorf("%+v is listed, and not what stands", a)
		}
		return true
	})
	if want := len(wanted(s, Cursor{}, "", "mc-1", false)); live != want {
		t.Errorf("%d live assignments of an MC that has %d", live, want)
	}
}

// checkDetached reads a snapshot while the machine goes on, and puts it into another.
func checkDetached(t *testing.T, m *Machine) {
	s := m.Snapshot()
	index, hash := s.Index(), s.Hash()
	other := NewMachine(nil)
	if err := other.Restore(bytes.NewReader(written(t, s))); err != nil {
		t.Error(err)
	}
	if other.Index() != index || other.state.Hash() != hash {
		t.Errorf("the snapshot at index %d moved while it was written", index)
	}
	if now := m.Index(); now < index {
		t.Errorf("index %d after %d", now, index)
	}
}
