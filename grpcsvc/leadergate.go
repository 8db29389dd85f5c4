package grpcsvc

import (
	"container/list"
	"context"
	"runtime"
	"sync"
	"time"
)

// leaderGate bounds the joins that the leader runs at once, those that other replicas let in and passed
// on as well. The bound falls while this process runs late, and rises again when it does not: heartbeats
// have to wait their turn among goroutines as everything does, and a leader whose heartbeats are late is
// voted out, which helps nobody who waits. How many joins are too many depends on what else goes on: a
// snapshot, the garbage collector, what runs on the same machine.
//
// A join beyond the bound waits a little, as most often there is room in a moment: to be refused, and to
// come again, would take more of the time that is short.
type leaderGate struct {
	tooLate time.Duration

	mu       sync.Mutex
	limit    int
	underWay int
	// waiting are those that came when there was no room, the first first: a channel each, closed
	// when it is in. While any waits, there is no room.
	waiting list.List
}

const (
	mostJoins = 4096
	// leastJoins are too few to be why anything is late.
	leastJoins = 128
	// pulse is how often it is looked whether this process runs late.
	pulse = 10 * time.Millisecond
	// turns is how often a heartbeat waits for its turn, about, before the time is over after which a
	// follower misses its leader.
	turns = 5
	// joinPatience is how long a join waits for room: longer than the bound takes to rise by half,
	// and still no wait that anybody notices who joins a meeting.
	joinPatience = 100 * time.Millisecond
)

func newLeaderGate(heartbeatTimeout time.Duration) *leaderGate {
	return &leaderGate{limit: mostJoins, tooLate: heartbeatTimeout / turns}
}

// enter says whether there is room, now or soon; who was let in must leave.
func (g *leaderGate) enter(ctx context.Context) bool {
	g.mu.Lock()
	if g.underWay < g.limit {
		g.underWay++
		g.mu.Unlock()
		return true
	}
	in := make(chan struct{})
	place := g.waiting.PushBack(in)
	g.mu.Unlock()

	patience := time.NewTimer(joinPatience)
	defer patience.Stop()
	select {
	case <-in:
		return true
	case <-patience.C:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-in: // at the same time
		return true
	default:
	}
	g.waiting.Remove(place)
	return false
}

func (g *leaderGate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.underWay--
	g.letIn()
}

// letIn lets in who waits, as far as there is room. The caller holds mu.
func (g *leaderGate) letIn() {
	for g.underWay < g.limit && g.waiting.Len() > 0 {
		g.underWay++
		close(g.waiting.Remove(g.waiting.Front()).(chan struct{}))
	}
}

// run keeps the bound right until done is closed.
func (g *leaderGate) run(done <-chan struct{}) {
	for {
		began := time.Now()
		select {
		case <-time.After(pulse):
		case <-done:
			return
		}
		runtime.Gosched() // a timer jumps the queue of goroutines that it is to measure
		g.adjust(time.Since(began) - pulse)
	}
}

// adjust takes a quarter off what is under way when it is late, and else gives back a little: all within
// a second.
func (g *leaderGate) adjust(late time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if late > g.tooLate && g.underWay > leastJoins {
		g.limit = max(leastJoins, 3*min(g.limit, g.underWay)/4)
	} else if late <= g.tooLate {
		g.limit = min(mostJoins, g.limit+1+g.limit/16)
	}
	g.letIn()
}
