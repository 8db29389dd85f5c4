package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Kind is what a call asks for.
type Kind string

// The kinds of calls.
const (
	KindJoin     Kind = "join"
	KindEnd      Kind = "end"
	KindGet      Kind = "get"       // linearizable
	KindGetStale Kind = "get-stale" // the replica's own state
	KindReport   Kind = "report"
	KindRegister Kind = "register"
)

// Outcome is what is known of a call's effect.
type Outcome string

// The outcomes.
const (
	Done    Outcome = "done"    // acknowledged
	Refused Outcome = "refused" // certainly without effect; Reason says why
	Unknown Outcome = "unknown" // it may have happened, or may yet happen
)

// Placement is an assignment as somebody was told it.
type Placement struct {
	Token uint64   `json:"token"`
	MC    string   `json:"mc"`
	MHs   []string `json:"mhs"` // ranked
}

// Call is one call of a client or a node and its answer. Times are since the run began.
type Call struct {
	ID      int           `json:"id"`
	Client  string        `json:"client"`  // makes one call at a time
	Replica string        `json:"replica"` // that was called
	Life    int           `json:"life"`    // how often that replica had been started
	Kind    Kind          `json:"kind"`
	Meeting string        `json:"meeting,omitempty"`
	Region  string        `json:"region,omitempty"`
	Node    string        `json:"node,omitempty"` // that reported or registered
	Seq     uint32        `json:"seq,omitempty"`  // tells a node's reports, and registrations, apart
	Token   uint64        `json:"token,omitempty"`
	Min     uint64        `json:"min_index,omitempty"`
	Sent    time.Duration `json:"sent"`
	Back    time.Duration `json:"back"`
	Outcome Outcome       `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
	Created bool          `json:"created,omitempty"`
	Found   *Placement    `json:"found,omitempty"`
	Index   uint64        `json:"index,omitempty"` // the Raft index that the answer reflects
}

// sample is a replica's word for its state hash at an index.
type sample struct {
	Replica string `json:"replica"`
	Index   uint64 `json:"index"`
	Hash    string `json:"hash"`
}

// history is everything that was recorded in one round. Its methods may be called from several
// goroutines.
type history struct {
	start time.Time

	mu      sync.Mutex
	calls   []*Call
	samples []sample
}

func newHistory(start time.Time) *history { return &history{start: start} }

func (h *history) now() time.Duration { return time.Since(h.start) }

func (h *history) add(c *Call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.ID = len(h.calls)
	h.calls = append(h.calls, c)
}

func (h *history) addSample(s sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples = append(h.samples, s)
}

// successes counts the acknowledged calls of clients that were sent and answered in a time.
func (h *history) successes(from, to time.Duration) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c.Outcome == Done && c.Meeting != "" && c.Sent >= from && c.Back <= to {
			n++
		}
	}
	return n
}

// firstSuccess says whether a call of a client that was sent after a time has been acknowledged by
// one of the replicas, and when.
func (h *history) firstSuccess(after time.Duration, by func(replica string) bool) (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.calls) - 1; i >= 0; i-- {
		c := h.calls[i]
		if c.Back < after {
			break
		}
		if c.Sent >= after && c.Outcome == Done && writes(c) && by(c.Replica) {
			return c.Back, true
		}
	}
	return 0, false
}

// writes says whether an acknowledged call proves that the cluster commits.
func writes(c *Call) bool {
	return (c.Kind == KindJoin && c.Created) || c.Kind == KindEnd
}

// writeLines writes records as JSON, one a line.
func writeLines[T any](path string, records []T) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keep a history: %w", err)
	}
	w := bufio.NewWriter(f)
	encoder := json.NewEncoder(w)
	for _, r := range records {
		if err := encoder.Encode(r); err != nil {
			f.Close()
			return fmt.Errorf("keep a history in %s: %w", path, err)
		}
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return fmt.Errorf("keep a history in %s: %w", path, err)
	}
	return f.Close()
}
