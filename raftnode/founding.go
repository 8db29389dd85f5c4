package raftnode

import (
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// How a cluster begins, without a replica that begins anew by mistake.
//
// A folder that is empty may be one of a first start, or one whose disk was lost. Its replica cannot
// tell. If it took part in elections on the word of its flags alone, then with {gc-1, gc-2} having
// committed an entry and the disk of gc-2 lost, gc-2 and a gc-3 that lags would be a majority that
// has never heard of the entry.
//
// So a new replica does not run Raft. It waits until one of two things happens:
//
//  1. Raft calls it, by its server id. Only a configuration that names it makes anyone do so: either
//     that of a first start or that of a leader who has admitted it in place of a folder that is
//     gone. It then joins the caller's cluster, with an empty log, which is what it has.
//  2. It is the first of the initial cluster by node id, and all the others answer that they are
//     new, too. Then it founds the cluster: it alone writes the first configuration, with the
//     server ids that it was told.
//
// Why all, and not a majority: a majority of new replicas proves nothing. Let {gc-1, gc-2} commit an
// entry before gc-3 is started for the first time, and the disk of gc-2 be lost while gc-1 is down:
// gc-2 and gc-3 are a majority of new ones, and would begin again without the entry. If all are
// new there is no disk left on which anything could have been acknowledged.
//
// Answers need not be of the same moment. A server id is told to be new only while its folder has
// not joined, so it is not in any configuration that somebody could act on: the founder is the only
// one to write a first configuration, and does so once for each instance of its own. If a folder is
// lost between its answer and the founding, the configuration names a server that is gone, and the
// new folder is admitted in its place like any other. If the founder is lost after the others have
// joined it, the new founder finds that they are not new. If it is lost before they have, two
// clusters may have been written, of which a replica joins one only, and each of them needs a
// majority of replicas that have joined it.

// founders are the servers of the first configuration, in the order of the initial cluster, if this
// replica is to write it now.
func founders(self identity, c *Config, reports []report) ([]raft.Server, bool) {
	initial := c.initialCluster()
	servers := make([]raft.Server, 0, len(initial))
	for _, s := range initial {
		id := self.serverID()
		if s.ID < self.NodeID {
			return nil, false
		}
		if s.ID != self.NodeID {
			i := slices.IndexFunc(reports, func(r report) bool { return r.nodeID == s.ID })
			if i < 0 || reports[i].err != nil || reports[i].Standing != standingNew {
				return nil, false
			}
			id = reports[i].From
		}
		servers = append(servers, raft.Server{ID: id, Address: serverAddress(id, s.RaftAddress)})
	}
	return servers, true
}

// found makes a cluster of new replicas, and begins with it.
func (n *Node) found(servers []raft.Server) error {
	n.entry.Lock()
	defer n.entry.Unlock()
	if n.dir.self().Joined || n.closed {
		return nil
	}
	configuration := raft.Configuration{Servers: servers}
	if err := raft.BootstrapCluster(n.raftConfig(), n.stores.log, n.stores.stable, n.stores.snapshots, n.transport, configuration); err != nil {
		return fmt.Errorf("write the initial cluster: %w", err)
	}
	// What is cut short here is cleared at the next start: nobody has been told of it.
	cluster := drawID()
	n.log.Info("founding a cluster", "cluster", cluster, "replicas", nodesOf(servers))
	if err := n.dir.join(cluster); err != nil {
		return err
	}
	return n.startFirst()
}

// startFirst starts Raft in a cluster that was just founded, which needs not be searched for a leader
// first.
func (n *Node) startFirst() error {
	if err := n.startRaft(); err != nil {
		return err
	}
	if err := n.lookForLeader(); err != nil {
		return fmt.Errorf("begin the first election: %w", err)
	}
	return nil
}

// enter joins a cluster whose Raft has called this replica. A folder that has joined must run Raft, so
// there is no way back from an error in between.
func (n *Node) enter(cluster string) error {
	n.entry.Lock()
	defer n.entry.Unlock()
	if self := n.dir.self(); self.Joined {
		if self.Cluster != cluster { // of which another caller was, at the same time
			return fmt.Errorf("it has joined the cluster %q", self.Cluster)
		}
		return nil
	}
	if n.closed {
		return errClosed
	}
	n.log.Info("joining a cluster", "cluster", cluster)
	err := n.dir.join(cluster)
	if err == nil {
		err = n.startRaft()
	}
	if err != nil {
		n.config.Fatal(err)
	}
	return err
}

func nodesOf(servers []raft.Server) []string {
	nodes := make([]string, len(servers))
	for i, s := range servers {
		nodes[i] = nodeOf(s.ID)
	}
	return nodes
}
