package grpcsvc

import (
	"testing"
	"testing/synctest"
	"time"
)

func (g leaderGate) fill() (entered int) {
	for g.enter() {
		entered++
	}
	return entered
}

// A leader that runs late lets fewer joins in, and as many as before once it is in time.
func TestLeaderGate(t *testing.T) {
	g := newLeaderGate(200 * time.Millisecond)
	g.adjust(0)
	if got := g.fill(); got != mostJoins {
		t.Fatalf("let in %d, want %d", got, mostJoins)
	}
	g.adjust(g.tooLate)
	g.leave()
	if !g.enter() {
		t.Error("the bound fell though it was in time")
	}
	g.adjust(g.tooLate + 1)
	g.leave()
	if g.enter() {
		t.Error("as many as before are let in although it is late")
	}
	for range mostJoins - 1 - 200 {
		g.leave()
	}
	g.adjust(g.tooLate + 1) // what counts is how many there are, not how many there might be
	for range 50 {
		g.leave()
	}
	if got := g.fill(); got != 0 {
		t.Errorf("%d more were let in at three quarters of 200", got)
	}
	for range 100 {
		g.adjust(time.Hour)
	}
	for range 150 {
		g.leave()
	}
	if got := g.fill(); got < leastJoins || got > 150 {
		t.Errorf("let in %d at worst, want few, but %d at least", got, leastJoins)
	}
	for range 100 {
		g.adjust(0)
	}
	g.fill()
	if got := g.underWay.Load(); got != mostJoins {
		t.Errorf("%d are in after a second without delay, want %d", got, mostJoins)
	}
	idle := newLeaderGate(200 * time.Millisecond)
	idle.adjust(time.Hour)
	if got := idle.fill(); got != mostJoins {
		t.Errorf("let in %d after a delay without joins, want %d", got, mostJoins)
	}
}

func TestLeaderGateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, done := newLeaderGate(200*time.Millisecond), make(chan struct{})
		g.limit.Store(leastJoins)
		go g.run(done)
		time.Sleep(time.Second) // of the bubble's own time: it is never late
		if got := g.limit.Load(); got != mostJoins {
			t.Errorf("the bound is %d after a second, want %d", got, mostJoins)
		}
		close(done)
	})
}
