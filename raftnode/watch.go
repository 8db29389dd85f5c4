package raftnode

import (
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// leaderWatch has raft look whether its leader is still there as soon as it has been silent for the
// heartbeat timeout. By itself raft looks at random moments, one to two timeouts apart, so that a leader
// is missed after one to three. To be as fast, the timeout would have to be so short that a leader
// which only stumbles is voted out.
//
// The replicas take turns. One that still hears of the leader, or has not looked yet, denies the others
// their pre-vote, so it is the one that completes a quorum of those that looked who is elected; and
// two that look at the same moment would each vote for itself.
type leaderWatch struct {
	timeout time.Duration
	// turn of a replica: the time between two. It is the longest between two of raft's heartbeats, so
	// the order holds although the leader was last heard at different times.
	turn time.Duration
	// place is this replica's among those that take turns; false: it has nobody to watch.
	place func() (int, bool)
	heard func() time.Time
	look  func()
	done  <-chan struct{}
}

// heartbeatsPerTimeout is how many of its own heartbeats at least raft fits in a heartbeat timeout: it
// waits a tenth to a fifth of it for the next.
const heartbeatsPerTimeout = 5

// run watches until done is closed.
func (w leaderWatch) run() {
	for {
		heard := w.heard()
		place, watching := w.place()
		if !watching {
			if !w.sleep(w.timeout) {
				return
			}
			continue
		}
		due := heard.Add(w.timeout + time.Duration(place)*w.turn)
		if !w.sleep(time.Until(due)) {
			return
		}
		// Who did not get to run cannot tell silence from what it has yet to read.
		if time.Since(due) > w.turn/2 && !w.sleep(w.turn) {
			return
		}
		if !w.heard().Equal(heard) {
			continue
		}
		w.look()
		if !w.sleep(w.timeout) {
			return
		}
	}
}

// sleep is false when it is over.
func (w leaderWatch) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.done:
		return false
	}
}

// watchLeader watches this replica's leader.
func (n *Node) watchLeader() {
	timeout := n.config.Timing.HeartbeatTimeout
	leaderWatch{
		timeout: timeout,
		turn:    timeout / heartbeatsPerTimeout,
		place:   n.placeInTurn,
		heard:   n.raft.LastContact,
		done:    n.done,
		look: func() {
			if err := n.lookForLeader(); err != nil {
				n.log.Warn("cannot look for the leader at once: raft will look by itself", "error", err)
			}
		},
	}.run()
}

// placeInTurn is this replica's place among the voters that follow the leader; false when it is none of them.
func (n *Node) placeInTurn() (int, bool) {
	_, leader := n.raft.LeaderWithID()
	if n.raft.State() != raft.Follower || leader == "" {
		return 0, false
	}
	self, place := n.dir.self().serverID(), 0
	servers := n.servers()
	for _, s := range servers {
		if s.ID != leader && s.Suffrage == raft.Voter && s.ID < self {
			place++
		}
	}
	return place, slices.ContainsFunc(servers, func(s raft.Server) bool { return s.ID == self && s.Suffrage == raft.Voter })
}

// lookForLeader has a follower look at once when it last heard from its leader: raft does when its
// timeout is made shorter.
func (n *Node) lookForLeader() error {
	timing := n.raft.ReloadableConfig()
	longer := timing
	longer.HeartbeatTimeout += time.Millisecond
	longer.ElectionTimeout += time.Millisecond
	return errors.Join(n.raft.ReloadConfig(longer), n.raft.ReloadConfig(timing))
}
