package raftnode

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// introduce is the hello with which Raft calls a server.
func (n *Node) introduce(to raft.ServerID) hello {
	self := n.dir.self()
	return hello{Purpose: forRaft, From: self.serverID(), To: to, Joined: true, Cluster: self.Cluster}
}

// receive answers a hello. What Raft is not to hear is refused here, before it can count: calls of
// another cluster, and calls for another server at this address, whose vote this one does not have.
// Who calls is not looked at beyond its cluster: a replica that lags does not know all servers of
// the configuration, and must hear them. Raft itself refuses to vote for a server that it does not
// know.
func (n *Node) receive(h hello) answer {
	self := n.dir.self()
	a := answer{From: self.serverID(), Joined: self.Joined, Cluster: self.Cluster, Leader: n.Leader()}
	switch {
	case h.From == a.From:
		return a.refuse("%s has called itself: the address of another replica leads here", nodeOf(h.From))
	case h.To != "" && nodeOf(h.To) != self.NodeID:
		return a.refuse("%s has called %s, this is %s: check the addresses of the initial cluster",
			nodeOf(h.From), nodeOf(h.To), self.NodeID)
	case h.Joined && self.Joined && h.Cluster != self.Cluster:
		return a.refuse("%s belongs to cluster %q, %s to cluster %q: one of them has an address or a data folder of the other cluster",
			nodeOf(h.From), h.Cluster, self.NodeID, self.Cluster)
	case h.Purpose == forRaft:
		return n.receiveRaft(h, a)
	case !self.Joined:
		return n.receiveNew(h, a)
	default:
		return n.stand(h, a)
	}
}

// receiveRaft lets Raft through to the server that it calls, and has a new replica join the cluster
// that calls it.
func (n *Node) receiveRaft(h hello, a answer) answer {
	// A call without an instance is for a server without one.
	if h.To != a.From && (h.To != "" || hasInstance(a.From)) {
		return a.refuse("the data folder of %s is another one (%s) than the one that was called (%s): "+
			"it has no vote before the leader admits it", nodeOf(a.From), a.From, h.To)
	}
	if !a.Joined {
		if err := n.enter(h.Cluster); err != nil {
			return a.refuse("%s could not join: %v", nodeOf(a.From), err)
		}
	}
	a.Joined, a.Cluster, a.Standing = true, h.Cluster, standingWelcome
	return a
}

// receiveNew tells who asks that this replica is new, too.
func (n *Node) receiveNew(h hello, a answer) answer {
	a.Standing, a.Initial = standingNew, n.config.initialNodes()
	if !h.Joined && !slices.Equal(h.Initial, a.Initial) {
		return a.refuse("the initial cluster of %s is %v, that of %s is %v: they must be the same",
			nodeOf(h.From), h.Initial, nodeOf(a.From), a.Initial)
	}
	n.wake(h.From)
	return a
}

// confirmTimeout bounds the proof that this replica leads, within helloTimeout.
const confirmTimeout = helloTimeout / 2

// stand tells a replica where it stands in this one's cluster.
func (n *Node) stand(h hello, a answer) answer {
	servers := n.servers()
	if slices.ContainsFunc(servers, func(s raft.Server) bool { return s.ID == h.From }) {
		a.Standing = standingMember
		return a
	}
	a.Standing = standingWaiting
	lead := n.Leading()
	if lead == nil {
		return a
	}
	twins := twinsOf(servers, h.From)
	if len(twins) == 0 {
		return a.refuse("the cluster has no replica %s: its replicas are %v", nodeOf(h.From), nodesOf(servers))
	}
	n.applicants.add(raft.Server{ID: h.From, Address: serverAddress(h.From, h.Address)})
	for _, twin := range twins {
		if n.presence(twin.ID, lead) != present {
			continue
		}
		_, at := splitAddress(twin.Address)
		a.Reason = "another " + nodeOf(h.From) + " is running at " + at + " with its own data folder: stop one of the two"
		// A folder that has joined must be sure: one that is new waits for its turn in any case.
		if h.Joined && n.leadsForSure() {
			a.Standing = standingReplaced
		}
		return a
	}
	a.Reason = "the leader admits it once the old data folder of " + nodeOf(h.From) + " has been silent for " + n.silence().String()
	return a
}

// leadsForSure rules out that another replica leads by now and knows better.
func (n *Node) leadsForSure() bool {
	ctx, cancel := context.WithTimeout(context.Background(), confirmTimeout)
	defer cancel()
	_, err := n.ReadIndex(ctx)
	return err == nil
}

// presence is what a leader knows of whether a server runs.
type presence int

const (
	// unclear: it has not answered for a while, or this leader is new.
	unclear presence = iota
	present
	absent
)

// silence is for how long a server must not have answered to be taken for one that is gone.
func (n *Node) silence() time.Duration {
	return max(time.Second, 3*n.config.Timing.HeartbeatTimeout)
}

func (n *Node) presence(id raft.ServerID, lead *Leadership) presence {
	if id == n.dir.self().serverID() {
		return present
	}
	heard := n.transport.lastHeard(id)
	switch silence := n.silence(); {
	case time.Since(heard) < silence/2:
		return present
	case time.Since(heard) > silence && time.Since(lead.since) > silence:
		return absent
	}
	return unclear
}
