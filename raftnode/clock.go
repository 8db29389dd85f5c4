package raftnode

import (
	"sync"
	"time"
)

// stampClock is what a leader stamps its entries with: the wall clock, but never before state
// time. After a leader whose clock was ahead, stamps go on at half speed until the wall clock has
// caught up. They must not stand still: what the state machine measures, such as whether a report
// can have seen a placement, would stand still with them. The zero value follows the wall clock.
type stampClock struct {
	mu      sync.Mutex
	stateMs int64
	since   time.Time // when state time was stateMs, by the monotonic clock
}

// begin says what state time is at the beginning of a leadership.
func (c *stampClock) begin(stateMs int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stateMs, c.since = stateMs, time.Now()
}

func (c *stampClock) stampMs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.since.IsZero() {
		return now.UnixMilli()
	}
	return max(now.UnixMilli(), c.stateMs+now.Sub(c.since).Milliseconds()/2)
}
