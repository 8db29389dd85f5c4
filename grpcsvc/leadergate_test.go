package grpcsvc

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fill lets in as many as there is room for, and is how many. The last one waits in vain.
func (g *leaderGate) fill(t *testing.T) (entered int) {
	t.Helper()
	for g.enter(t.Context()) {
		entered++
	}
	return entered
}

// A leader that runs late lets fewer joins in, and as many as before once it is in time.
func TestLeaderGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLeaderGate(200 * time.Millisecond)
		g.adjust(0)
		if got := g.fill(t); got != mostJoins {
			t.Fatalf("let in %d, want %d", got, mostJoins)
		}
		g.adjust(g.tooLate)
		g.leave()
		if !g.enter(t.Context()) {
			t.Error("the bound fell though it was in time")
		}
		g.adjust(g.tooLate + 1)
		g.leave()
		if g.enter(t.Context()) {
			t.Error("as many as before are let in although it is late")
		}
		for range mostJoins - 1 - 200 {
			g.leave()
		}
		g.adjust(g.tooLate + 1) // what counts is how many there are, not how many there might be
		for range 50 {
			g.leave()
		}
		if got := g.fill(t); got != 0 {
			t.Errorf("%d more were let in at three quarters of 200", got)
		}
		for range 100 {
			g.adjust(time.Hour)
		}
		for range 150 {
			g.leave()
		}
		if got := g.fill(t); got < leastJoins || got > 150 {
			t.Errorf("let in %d at worst, want few, but %d at least", got, leastJoins)
		}
		for range 100 {
			g.adjust(0)
		}
		g.fill(t)
		if got := g.underWay; got != mostJoins {
			t.Errorf("%d are in after a second without delay, want %d", got, mostJoins)
		}
		idle := newLeaderGate(200 * time.Millisecond)
		idle.adjust(time.Hour)
		if got := idle.fill(t); got != mostJoins {
			t.Errorf("let in %d after a delay without joins, want %d", got, mostJoins)
		}
	})
}

// Who finds no room is let in when there is some soon, in the order they came, and refused when not.
func TestLeaderGateIsWaitedFor(t *testing.T) {
	const (
		left    = "who waits when another leaves"
		rises   = "who waits when the bound rises"
		tired   = "who waits in vain"
		gaveUp  = "who is given up by its caller"
		between = joinPatience / 10
	)
	synctest.Test(t, func(t *testing.T) {
		g := newLeaderGate(200 * time.Millisecond)
		g.limit = leastJoins
		for range leastJoins {
			if !g.enter(t.Context()) {
				t.Fatal("there is room and it was refused")
			}
		}
		began := time.Now()
		var mu sync.Mutex
		waited := make(map[string]time.Duration)
		come := func(ctx context.Context, name string, want bool) {
			go func() {
				if got := g.enter(ctx); got != want {
					t.Errorf("%s: let in is %v", name, got)
				}
				mu.Lock()
				defer mu.Unlock()
				waited[name] = time.Since(began)
			}()
			synctest.Wait()
		}
		brief, cancel := context.WithTimeout(t.Context(), 3*between)
		defer cancel()
		come(t.Context(), left, true)
		come(t.Context(), rises, true)
		g.leave()
		time.Sleep(between)
		come(t.Context(), tired, false)
		come(brief, gaveUp, false)
		time.Sleep(between)
		g.mu.Lock()
		g.limit++
		g.letIn()
		g.mu.Unlock()
		time.Sleep(2 * joinPatience)
		synctest.Wait()
		for name, want := range map[string]time.Duration{
			left: 0, rises: 2 * between, gaveUp: 3 * between, tired: between + joinPatience,
		} {
			if waited[name] != want {
				t.Errorf("%s after %v, want %v", name, waited[name], want)
			}
		}
		if g.waiting.Len() != 0 || g.underWay != g.limit {
			t.Errorf("%d wait and %d are in, want nobody and %d", g.waiting.Len(), g.underWay, g.limit)
		}
	})
}

// Who is let in at the very moment at which it gives up is either in, or leaves its place to others.
func TestLeaderGateLosesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLeaderGate(200 * time.Millisecond)
		g.limit = 1
		for range 200 {
			if !g.enter(t.Context()) {
				t.Fatal("nobody is in, and there is no room")
			}
			for range 2 {
				go func() {
					if g.enter(t.Context()) {
						g.leave()
					}
				}()
			}
			synctest.Wait()
			time.Sleep(joinPatience)
			g.leave()
			synctest.Wait()
		}
		if g.underWay != 0 || g.waiting.Len() != 0 {
			t.Errorf("%d are in and %d wait, want nobody", g.underWay, g.waiting.Len())
		}
	})
}

func TestLeaderGateEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, done := newLeaderGate(200*time.Millisecond), make(chan struct{})
		g.limit = leastJoins
		go g.run(done)
		time.Sleep(time.Second) // of the bubble's own time: it is never late
		synctest.Wait()
		if got := g.limit; got != mostJoins {
			t.Errorf("the bound is %d after a second, want %d", got, mostJoins)
		}
		close(done)
	})
}
