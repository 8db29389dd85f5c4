package sim

import (
	"sync"
	"time"
)

// EventKind says what an Event is about.
type EventKind string

// What a meeting controller is told, and what it tells the cluster.
const (
	EventAssign        EventKind = "assign"
	EventRelease       EventKind = "release"
	EventDrop          EventKind = "drop" // named in the answer to a comprehensive heartbeat
	EventRegister      EventKind = "register"
	EventFast          EventKind = "fast-heartbeat"
	EventComprehensive EventKind = "comprehensive-heartbeat"
	EventEnd           EventKind = "end"
	EventRestart       EventKind = "restart"
)

// Outcome says how an Event ended.
type Outcome string

// Outcomes of events.
const (
	OutcomeAccepted     Outcome = "accepted"
	OutcomeRejected     Outcome = "rejected"     // with a RejectionReason in Detail
	OutcomeRepeated     Outcome = "repeated"     // same token: answered as before
	OutcomeRefused      Outcome = "refused"      // token not above what was seen
	OutcomeFailed       Outcome = "failed"       // an error, named in Detail
	OutcomeHung         Outcome = "hung"         // no answer, nothing taken
	OutcomeReleased     Outcome = "released"     // it was hosted and is dropped
	OutcomeNotHosted    Outcome = "not-hosted"   // nothing to drop
	OutcomeKept         Outcome = "kept"         // hosted under a higher token than the one named
	OutcomeAcknowledged Outcome = "acknowledged" // the cluster confirmed it
	OutcomeRemembered   Outcome = "remembered"   // restarted with what it hosted
	OutcomeForgot       Outcome = "forgot"       // restarted with nothing
)

// Event is one thing a meeting controller was told or told the cluster.
type Event struct {
	At      time.Time
	Kind    EventKind
	Outcome Outcome
	Meeting string
	Region  string
	Token   uint64
	MHs     []string // ranked: primary first
	GC      string   // the replica that asked, as it named itself
	Legacy  bool     // under the older package name
	Detail  string
}

// defaultJournalLimit keeps a long-running simulator from growing without bound.
const defaultJournalLimit = 20_000

// journal keeps the latest events and counts all of them. It is safe for concurrent use.
type journal struct {
	mu     sync.Mutex
	limit  int
	events []Event
	counts map[EventKind]map[Outcome]int
}

func newJournal(limit int) *journal {
	if limit <= 0 {
		limit = defaultJournalLimit
	}
	return &journal{limit: limit, counts: make(map[EventKind]map[Outcome]int)}
}

func (j *journal) record(event Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	// Half is dropped at a time, so that recording stays cheap.
	if len(j.events) >= j.limit {
		j.events = append(j.events[:0:0], j.events[len(j.events)-j.limit/2:]...)
	}
	j.events = append(j.events, event)
	outcomes := j.counts[event.Kind]
	if outcomes == nil {
		outcomes = make(map[Outcome]int)
		j.counts[event.Kind] = outcomes
	}
	outcomes[event.Outcome]++
}

func (j *journal) copy() []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]Event(nil), j.events...)
}

// count counts events of a kind since the beginning, with that outcome or, if empty, with any.
func (j *journal) count(kind EventKind, outcome Outcome) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	if outcome != "" {
		return j.counts[kind][outcome]
	}
	total := 0
	for _, n := range j.counts[kind] {
		total += n
	}
	return total
}
