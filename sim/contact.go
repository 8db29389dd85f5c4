package sim

import (
	"sync"
	"time"
)

// DefaultStaleAfter is how long a node may be silent before a cluster calls it unhealthy.
const DefaultStaleAfter = 30 * time.Second

// contact remembers when the cluster acknowledged a node's reports, to tell a node that fell
// silent from one that was called stale although it reported. The cluster received a report at
// some moment between sent and acknowledged, so gaps are measured pessimistically: from sending
// one report to the acknowledgement of the next. It is safe for concurrent use.
type contact struct {
	mu          sync.Mutex
	limit       time.Duration // the longest gap that still counts as steady
	steadySince time.Time     // when the first report after the last gap was acknowledged; zero: never reported
	lastSent    time.Time     // when the last acknowledged report was sent
	gaps        int           // how often the limit was exceeded
	first       chan struct{} // closed at the first acknowledgement
}

// newContact allows gaps of up to 80 % of staleAfter: the rest is margin for a busy machine.
func newContact(staleAfter time.Duration) *contact {
	if staleAfter <= 0 {
		staleAfter = DefaultStaleAfter
	}
	return &contact{limit: staleAfter * 4 / 5, first: make(chan struct{})}
}

// acknowledged records that a report sent at sent was acknowledged at acked.
func (c *contact) acknowledged(sent, acked time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.steadySince.IsZero():
		c.steadySince = acked
		close(c.first)
	case acked.Sub(c.lastSent) > c.limit:
		c.steadySince = acked
		c.gaps++
	}
	if sent.After(c.lastSent) {
		c.lastSent = sent
	}
}

// steady tells since when reports have been acknowledged without too long a gap, and whether
// there ever was such a gap. ok is false when reports are overdue at the given time.
func (c *contact) steady(at time.Time) (since time.Time, everGap, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok = !c.steadySince.IsZero() && at.Sub(c.lastSent) <= c.limit
	return c.steadySince, c.gaps > 0, ok
}

// last returns when the last acknowledged report was sent; zero when there was none.
func (c *contact) last() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lastSent
}
