package raftnode

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestPlacesOfFollowers(t *testing.T) {
	voters := func(ids ...raft.ServerID) (servers []raft.Server) {
		for _, id := range ids {
			servers = append(servers, raft.Server{ID: id})
		}
		return servers
	}
	three := voters("gc-1#a", "gc-2#b", "gc-3#c")
	for name, c := range map[string]struct {
		servers []raft.Server
		leader  raft.ServerID
		want    map[raft.ServerID]int
	}{
		"one that leads":     {voters("gc-1"), "gc-1", map[raft.ServerID]int{}},
		"three":              {three, "gc-2#b", map[raft.ServerID]int{"gc-1#a": 0, "gc-3#c": 1}},
		"in whichever order": {voters("gc-3", "gc-1", "gc-2"), "gc-1", map[raft.ServerID]int{"gc-2": 0, "gc-3": 1}},
		"one that joins anew and cannot vote": {append(three, raft.Server{ID: "gc-1#d", Suffrage: raft.Nonvoter}), "gc-3#c",
			map[raft.ServerID]int{"gc-1#a": 0, "gc-2#b": 1}},
		"five": {voters("a", "b", "c", "d", "e"), "c", map[raft.ServerID]int{"a": 0, "b": 1, "d": 2, "e": 3}},
	} {
		for term := range uint64(10) {
			for _, s := range c.servers {
				first, follows := c.want[s.ID]
				want := 0
				if follows {
					want = (first + int(term)) % len(c.want)
				}
				if got, ok := placeAmong(c.servers, c.leader, s.ID, term); ok != follows || got != want {
					t.Errorf("%s: in term %d the place of %s is %d, %v; want %d, %v", name, term, s.ID, got, ok, want, follows)
				}
			}
		}
	}
}

// Raft is made to look, however long its timeouts are.
func TestTheFirstElectionIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	c := newStoppedCluster(t, 1, LogStoreBolt)
	c.configs[0].Timing = Timing{HeartbeatTimeout: time.Hour, ElectionTimeout: time.Hour, LeaderLease: time.Hour}
	c.start(0)
	c.leader()
}

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
		"who did not run, like others, takes turns with them": {stall: timeout + 2*turn, place: 1,
			want: []time.Duration{timeout + 2*turn + 2*turn}},
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
