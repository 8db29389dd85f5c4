package sim

import (
	"context"
	"math/rand/v2"
	"time"
)

// Intervals used until the cluster names others.
const (
	defaultFastInterval          = 10 * time.Second
	defaultComprehensiveInterval = 30 * time.Second
)

// Run registers and reports until ctx ends, over failovers and its own restarts. It does not stop
// the server.
func (m *MeetingController) Run(ctx context.Context) {
	var nextFast, nextFull time.Time // zero: at once, with the list of what it hosts
	for ctx.Err() == nil {
		if m.Down() {
			select {
			case <-ctx.Done():
			case <-m.changed:
				nextFull = time.Time{}
			}
			continue
		}
		fast, full := m.intervals()
		first := nextFull.IsZero()
		now := time.Now()
		var err error
		if !now.Before(nextFull) {
			err = m.bounded(ctx, fast, m.ComprehensiveHeartbeat)
			nextFull = now.Add(full)
		} else if !now.Before(nextFast) {
			err = m.bounded(ctx, fast, m.FastHeartbeat)
			nextFast = now.Add(fast)
		}
		if err != nil {
			m.log.Debug("heartbeat failed", "error", err)
			nextFull = time.Time{}
			pause(ctx, retryDelay(0))
			continue
		}
		if first {
			// Controllers that started together spread over the interval, having learned it.
			fast, full = m.intervals()
			nextFast, nextFull = now.Add(rand.N(fast)), now.Add(full/2+rand.N(full/2+1))
		}
		m.sleepUntil(ctx, earlier(nextFast, nextFull), &nextFull)
	}
}

// sleepUntil waits for a time, or for a restart, after which the full list is due at once.
func (m *MeetingController) sleepUntil(ctx context.Context, at time.Time, nextFull *time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-m.changed:
		*nextFull = time.Time{}
	}
}

func (m *MeetingController) bounded(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(limit, time.Second))
	defer cancel()
	return call(ctx)
}

func (m *MeetingController) intervals() (fast, full time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return firstPositive(m.cfg.FastInterval, m.fast, defaultFastInterval),
		firstPositive(m.cfg.ComprehensiveInterval, m.full, defaultComprehensiveInterval)
}

func firstPositive(candidates ...time.Duration) time.Duration {
	for _, candidate := range candidates {
		if candidate > 0 {
			return candidate
		}
	}
	return 0
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
