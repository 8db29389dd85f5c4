package raftnode

import (
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Noise says which of raft's own log lines to leave out: those that come several times a second
// while a peer is down. This package logs when that begins and ends. For hclog's Exclude.
func Noise(_ hclog.Level, message string, _ ...any) bool {
	switch message {
	case "failed to heartbeat to", "failed to appendEntries to", "failed to contact",
		"entering candidate state", "pre-vote campaign failed, waiting for election timeout",
		"pre-vote denied", "Election timeout reached, restarting election", "peer has newer term, stopping replication",
		"failed to make requestVote RPC", "failed to make preVote RPC",
		"unable to get address for server, using fallback address":
		return true
	}
	return false
}

// observe counts and logs changes of leader, and peers that come and go.
func (n *Node) observe() {
	seen := make(chan raft.Observation, 64)
	n.raft.RegisterObserver(raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.FailedHeartbeatObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	}))
	n.tasks.Go(func() {
		var leader raft.ServerID
		down := make(map[raft.ServerID]bool)
		for {
			select {
			case o := <-seen:
				switch event := o.Data.(type) {
				case raft.LeaderObservation:
					n.leaderChanged(&leader, event.LeaderID)
				case raft.FailedHeartbeatObservation:
					if !down[event.PeerID] {
						down[event.PeerID] = true
						n.log.Warn("replica does not answer", "peer", nodeOf(event.PeerID))
					}
				case raft.ResumedHeartbeatObservation:
					delete(down, event.PeerID)
					n.log.Info("replica answers again", "peer", nodeOf(event.PeerID))
				}
			case <-n.done:
				return
			}
		}
	})
}

func (n *Node) leaderChanged(last *raft.ServerID, now raft.ServerID) {
	close(*n.changed.Swap(new(make(chan struct{}))))
	if now == "" {
		n.log.Warn("no leader is known", "last", nodeOf(*last), "term", n.raft.CurrentTerm())
		return
	}
	if now != *last {
		*last = now
		n.metrics.leaderChanges.Inc()
		n.log.Info("leader changed", "leader", nodeOf(now), "term", n.raft.CurrentTerm())
	}
}
