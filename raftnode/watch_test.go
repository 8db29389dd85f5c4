package raftnode

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLeaderWatch(t *testing.T) {
	const (
		timeout = 200 * time.Millisecond
		turn    = 40 * time.Millisecond
		beat    = 30 * time.Millisecond
	)
	for name, c := range map[string]struct {
		heardFor time.Duration // the leader's heartbeats come so long
		place    int
		alone    bool            // there is no leader to watch
		stall    time.Duration   // so long the process does not run, right at the beginning
		want     []time.Duration // when it looks
	}{
		"a leader that is heard": {heardFor: 2 * time.Second},
		"no leader":              {heardFor: beat, alone: true},
		"the first to miss it":   {heardFor: 10 * beat, want: []time.Duration{10*beat + timeout}},
		"the next waits its turn": {heardFor: 10 * beat, place: 1,
			want: []time.Duration{10*beat + timeout + turn}},
		"who did not run reads first what came meanwhile": {heardFor: 2 * time.Second, stall: timeout + turn},
		"who did not run, and there was nothing to read": {stall: timeout + turn,
			want: []time.Duration{timeout + turn + turn}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, done := time.Now(), make(chan struct{})
				since := func() time.Duration { return time.Since(began) }
				stalled := c.stall == 0
				heard := func() time.Time {
					if !stalled {
						stalled = true
						time.Sleep(c.stall)
						return began
					}
					now := since()
					if c.stall > 0 && now < c.stall+turn/2 { // what came is not read yet
						now = 0
					}
					return began.Add(min(now, c.heardFor).Truncate(beat))
				}
				var looked []time.Duration
				w := leaderWatch{
					timeout: timeout, turn: turn, done: done,
					place: func() (int, bool) { return c.place, !c.alone && len(looked) == 0 },
					heard: heard,
					look:  func() { looked = append(looked, since()) },
				}
				over := make(chan struct{})
				go func() {
					defer close(over)
					w.run()
				}()
				time.Sleep(time.Second)
				close(done)
				<-over
				if !slices.Equal(looked, c.want) {
					t.Errorf("looked after %v, want %v", looked, c.want)
				}
			})
		})
	}
}
