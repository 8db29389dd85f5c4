package fsm

import (
	"fmt"
	"io"
	"sync"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Observer follows the state. It is called with the state locked, so it must be quick and must
// not call the Machine.
type Observer interface {
	// NodeChanged is called for every node that is new or is not what it was.
	NodeChanged(*Node)
	// Reset is called when a snapshot has replaced the whole state.
	Reset(*State)
}

// Machine applies log entries to a State and lets others read it. All methods may be called
// from several goroutines, Apply and Restore from one at a time.
type Machine struct {
	mu       sync.RWMutex
	state    *State
	observer Observer
}

// NewMachine returns a machine with the empty state. The observer may be nil.
func NewMachine(observer Observer) *Machine {
	return &Machine{state: NewState(), observer: observer}
}

// Entry is one committed log entry. Data is nil for entries that are not commands, such as a
// change of the Raft configuration: they move the index only.
type Entry struct {
	Index uint64
	Term  uint64
	Data  []byte
}

// Apply applies entries in order, under one lock. An error means that this replica does not
// understand the log and must stop; the entries before it are applied.
func (m *Machine) Apply(entries []Entry) ([][]Result, error) {
	decoded := make([]*commandv1.Entry, len(entries))
	var err error
	for i, e := range entries { // before the lock: readers need not wait for it
		if e.Data == nil {
			continue
		}
		if decoded[i], err = DecodeEntry(e.Data); err != nil {
			entries, err = entries[:i], fmt.Errorf("log entry %d: %w", e.Index, err)
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	results := make([][]Result, len(decoded))
	for i, e := range entries {
		if decoded[i] == nil {
			m.state.index, m.state.term = e.Index, e.Term
			continue
		}
		results[i] = m.state.apply(e.Index, e.Term, decoded[i], m.nodeChanged)
	}
	return results, err
}

func (m *Machine) nodeChanged(n *Node) {
	if m.observer != nil {
		m.observer.NodeChanged(n)
	}
}

// View calls read with the state locked for reading. What read returns to its caller must be
// records, not the State.
func (m *Machine) View(read func(*State)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	read(m.state)
}

// Index is the Raft index of the last entry applied.
func (m *Machine) Index() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.index
}

// Snapshot returns the state as it is now, for reading at leisure. It costs the same at any
// size and holds up Apply no longer.
func (m *Machine) Snapshot() *State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.copy()
}

// Restore replaces the state by a snapshot. The old state stays when the snapshot is damaged.
func (m *Machine) Restore(r io.Reader) error {
	state, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	if m.observer != nil {
		m.observer.Reset(state)
	}
	return nil
}
