package sim

import (
	"slices"
	"sync"
	"time"
)

// Join is one acknowledged answer to a join.
type Join struct {
	Key
	Token   uint64
	MC      string
	MHs     []string  // ranked: primary first
	Started time.Time // when the attempt that was answered began
	Acked   time.Time
}

// Ledger keeps every answer that the cluster acknowledged, to hold the cluster to it afterwards.
// It is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	meetings map[Key]*account
	joins    int
	split    Finding // one token answered with two controllers
	altered  Finding // one token answered with other media handlers
	stale    Finding // called stale while it reported
	accused  map[string]bool
}

// account is what was acknowledged of one meeting in one region.
type account struct {
	grants map[uint64]*grant // by fencing token
	// openEnd: an end without a token, or one whose outcome is unknown, may have ended any grant.
	openEnd bool
}

// grant is one assignment that was acknowledged, by one or many answers.
type grant struct {
	mc          string // empty: only its end is known
	mhs         []string
	firstAck    time.Time
	lastStart   time.Time // when the latest of the answered attempts began
	endedAt     time.Time // when an end was acknowledged; zero: never
	perhapsOver bool      // an end was tried, with unknown outcome
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{meetings: make(map[Key]*account), accused: make(map[string]bool)}
}

// Joined records an acknowledged join.
func (l *Ledger) Joined(join Join) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joins++
	g := l.grant(join.Key, join.Token)
	if g.mc == "" {
		g.mc, g.mhs, g.firstAck, g.lastStart = join.MC, join.MHs, join.Acked, join.Started
		return
	}
	if g.mc != join.MC {
		l.split.add("%s under token %d: answered %s, then %s", join.Key, join.Token, g.mc, join.MC)
	} else if !slices.Equal(g.mhs, join.MHs) {
		l.altered.add("%s under token %d: answered with media handlers %v, then %v", join.Key, join.Token, g.mhs, join.MHs)
	}
	if join.Acked.Before(g.firstAck) {
		g.firstAck = join.Acked
	}
	if join.Started.After(g.lastStart) {
		g.lastStart = join.Started
	}
}

// Ended records an acknowledged end. Token 0 means that whichever was live has ended.
func (l *Ledger) Ended(key Key, token uint64, acked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token == 0 {
		l.account(key).openEnd = true
		return
	}
	if g := l.grant(key, token); g.endedAt.IsZero() || acked.Before(g.endedAt) {
		g.endedAt = acked
	}
}

// EndUnknown records an end that may or may not have happened. Token 0 means whichever was live.
func (l *Ledger) EndUnknown(key Key, token uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token == 0 {
		l.account(key).openEnd = true
		return
	}
	l.grant(key, token).perhapsOver = true
}

// Joins returns how many joins were acknowledged.
func (l *Ledger) Joins() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.joins
}

// account returns what is known of a meeting. The caller holds mu.
func (l *Ledger) account(key Key) *account {
	a := l.meetings[key]
	if a == nil {
		a = &account{grants: make(map[uint64]*grant, 1)}
		l.meetings[key] = a
	}
	return a
}

// grant returns what is known of an assignment. The caller holds mu.
func (l *Ledger) grant(key Key, token uint64) *grant {
	a := l.account(key)
	g := a.grants[token]
	if g == nil {
		g = &grant{}
		a.grants[token] = g
	}
	return g
}

// accuse records, once for each node, that it was called stale while it reported.
func (l *Ledger) accuse(id, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.accused[id] {
		l.accused[id] = true
		l.stale.add(format, args...)
	}
}
