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
// The replicas take turns. One that has not looked yet still has a leader, and denies the others their
// pre-vote, so it is the one that completes a quorum of those that looked who is elected, if its log is as
// long as theirs; and two that look at the same moment would each vote for itself.
type leaderWatch struct {
	timeout time.Duration
	// turn is the time between the turns of two replicas. It is the longest between two of raft's
	// heartbeats, so the order mostly holds though the leader was last heard at different times.
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
		// Who did not get to run cannot tell silence from what it has yet to read. Others may not have
		// run either: they take their turns anew.
		if time.Since(due) > w.turn/2 && !w.sleep(time.Duration(1+place)*w.turn) {
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

// placeInTurn is this replica's place among the voters that follow the leader; false when it is none of
// them. One that has no leader yet is left to raft's own timers.
func (n *Node) placeInTurn() (int, bool) {
	_, leader := n.raft.LeaderWithID()
	if n.raft.State() != raft.Follower || leader == "" {
		return 0, false
	}
	return placeAmong(n.servers(), leader, n.dir.self().serverID(), n.raft.CurrentTerm())
}

// placeAmong is a follower's place among the voters that follow a leader. It is another one in every term, as a
// follower whose log is behind is not elected, in whose turn it would be.
func placeAmong(servers []raft.Server, leader, self raft.ServerID, term uint64) (int, bool) {
	var followers []raft.ServerID
	for _, s := range servers {
		if s.ID != leader && s.Suffrage == raft.Voter {
			followers = append(followers, s.ID)
		}
	}
	slices.Sort(followers)
	at := slices.Index(followers, self)
	if at < 0 {
		return 0, false
	}
	count := uint64(len(followers))
	return int((uint64(at) + term%count) % count), true
}

// lookForLeader has a follower look at once when it last heard from its leader: raft does when its
// timeout is made shorter.
func (n *Node) lookForLeader() error {
	timing := n.raft.ReloadableConfig()
	timing.HeartbeatTimeout, timing.ElectionTimeout = n.config.Timing.HeartbeatTimeout, n.config.Timing.ElectionTimeout
	longer := timing
	longer.HeartbeatTimeout += time.Millisecond
	longer.ElectionTimeout += time.Millisecond
	return errors.Join(n.raft.ReloadConfig(longer), n.raft.ReloadConfig(timing))
}
