package raftnode

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestStampsGoOnAfterALeaderWhoseClockWasAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c stampClock
		ahead := time.Now().Add(time.Hour).UnixMilli()
		c.begin(ahead)
		if got := c.stampMs(); got != ahead {
			t.Errorf("the first stamp is %d, want state time, %d", got, ahead)
		}
		time.Sleep(10 * time.Second) // in the bubble's time
		if got, want := c.stampMs(), ahead+5000; got != want {
			t.Errorf("after ten seconds the stamp is %d, want %d: half as much later", got, want)
		}
		time.Sleep(3 * time.Hour)
		if got, want := c.stampMs(), time.Now().UnixMilli(); got != want {
			t.Errorf("once the wall clock has caught up the stamp is %d, want it, %d", got, want)
		}
	})
}

func TestStampsFollowTheWallClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c stampClock
		c.begin(time.Now().Add(-time.Hour).UnixMilli())
		time.Sleep(time.Second)
		if got, want := c.stampMs(), time.Now().UnixMilli(); got != want {
			t.Errorf("the stamp is %d, want %d", got, want)
		}
	})
}
