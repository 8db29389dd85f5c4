package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// liveMeeting is a meeting that the joiners believe to be live.
type liveMeeting struct {
	Key
	Token uint64 // 0: no answer has named it
}

// maxEnded bounds the ended meetings kept for joining again.
const maxEnded = 1000

// pool holds the meetings of one region: what may be joined again, and what may be ended. It is
// safe for concurrent use.
type pool struct {
	mu    sync.Mutex
	live  []liveMeeting
	index map[Key]int // place in live
	ended []Key
}

func newPool() *pool { return &pool{index: make(map[Key]int)} }

func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live)
}

// add puts a meeting in, or brings its token up to date; tokens only rise.
func (p *pool) add(meeting liveMeeting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.index[meeting.Key]; ok {
		p.live[at].Token = max(p.live[at].Token, meeting.Token)
		return
	}
	p.index[meeting.Key] = len(p.live)
	p.live = append(p.live, meeting)
}

// someLive draws a meeting whose token is known and leaves it in.
func (p *pool) someLive(random *rand.Rand) (liveMeeting, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.live) == 0 {
		return liveMeeting{}, false
	}
	meeting := p.live[random.IntN(len(p.live))]
	return meeting, meeting.Token != 0
}

// takeLive draws a meeting and takes it out.
func (p *pool) takeLive(random *rand.Rand) (liveMeeting, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.live) == 0 {
		return liveMeeting{}, false
	}
	at := random.IntN(len(p.live))
	meeting := p.live[at]
	last := len(p.live) - 1
	p.live[at] = p.live[last]
	p.index[p.live[at].Key] = at
	p.live = p.live[:last]
	delete(p.index, meeting.Key)
	return meeting, true
}

func (p *pool) addEnded(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ended) < maxEnded {
		p.ended = append(p.ended, key)
	}
}

// takeEnded draws an ended meeting and takes it out.
func (p *pool) takeEnded(random *rand.Rand) (Key, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ended) == 0 {
		return Key{}, false
	}
	at := random.IntN(len(p.ended))
	key := p.ended[at]
	p.ended[at] = p.ended[len(p.ended)-1]
	p.ended = p.ended[:len(p.ended)-1]
	return key, true
}

// pace spreads calls evenly over time. It is safe for concurrent use.
type pace struct {
	interval time.Duration // 0: no limit

	mu   sync.Mutex
	next time.Time
}

func newPace(perSecond float64) *pace {
	if perSecond <= 0 {
		return &pace{}
	}
	return &pace{interval: time.Duration(float64(time.Second) / perSecond)}
}

// wait waits for the next turn; false means that ctx has ended.
func (p *pace) wait(ctx context.Context) bool {
	if p.interval == 0 {
		return ctx.Err() == nil
	}
	p.mu.Lock()
	now := time.Now()
	// What an outage held up is caught up with for a second at most.
	if earliest := now.Add(-time.Second); p.next.Before(earliest) {
		p.next = now
	}
	turn := p.next
	p.next = turn.Add(p.interval)
	p.mu.Unlock()
	if delay := turn.Sub(now); delay > 0 {
		return pause(ctx, delay)
	}
	return ctx.Err() == nil
}
