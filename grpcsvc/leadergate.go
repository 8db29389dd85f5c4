package grpcsvc

import (
	"runtime"
	"time"
)

// leaderGate bounds the joins that the leader runs at once, those that other replicas let in and passed
// on as well. The bound falls while this process runs late, and rises again when it does not: heartbeats
// have to wait their turn among goroutines as everything does, and a leader whose heartbeats are late is
// voted out, which helps nobody who waits. How many joins are too many depends on what else goes on: a
// snapshot, the garbage collector, what runs on the same machine.
type leaderGate struct {
	*gate
	tooLate time.Duration
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
)

func newLeaderGate(heartbeatTimeout time.Duration) leaderGate {
	return leaderGate{newGate(mostJoins), heartbeatTimeout / turns}
}

// run keeps the bound right until done is closed.
func (g leaderGate) run(done <-chan struct{}) {
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
func (g leaderGate) adjust(late time.Duration) {
	limit := g.limit.Load()
	if underWay := g.underWay.Load(); late > g.tooLate && underWay > leastJoins {
		limit = max(leastJoins, 3*min(limit, underWay)/4)
	} else if late <= g.tooLate {
		limit = min(mostJoins, limit+1+limit/16)
	}
	g.limit.Store(limit)
}
