package raftnode

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// How a replica whose data folder was lost comes back. Started with an empty folder under its old
// name, it is a new server (identity.go) that asks all others where it stands. The leader admits it
// in place of its twin, the server of the same node id, without an operator:
//
//  1. Once the twin has been silent for a while, the new server becomes a non-voter. Raft calls it,
//     it joins, and gets the log or a snapshot. The twin keeps its vote meanwhile, so that the
//     majority is no smaller than it was.
//  2. Once the new server has caught up, the twin is removed, and then the new one becomes a voter.
//     The twin goes first: five replicas with a sixth vote would need four.
//
// Each step is a change of one server, which Raft makes safe: it needs a majority of the voters
// before it as well as after it. A cluster that has lost its majority has no leader, and nothing of
// this happens.

// change is a step to a configuration with one server for each node id.
type change struct {
	kind   changeKind
	server raft.Server
}

type changeKind int

const (
	none changeKind = iota
	// admit makes a server a non-voter.
	admit
	// remove takes a server out, which has a twin.
	remove
	// promote makes a non-voter that has caught up a voter.
	promote
)

// outlook is what the leader knows of a server.
type outlook struct {
	presence presence
	caughtUp bool
}

// nextChange is the next step, if there is one: it decides by what it is told alone. Applicants are
// servers that wait to be admitted.
func nextChange(servers, applicants []raft.Server, look func(raft.ServerID) outlook) change {
	for _, s := range servers {
		if s.Suffrage == raft.Voter {
			continue
		}
		own, twins := look(s.ID), twinsOf(servers, s.ID)
		if len(twins) == 0 {
			if own.caughtUp {
				return change{promote, s}
			}
			continue
		}
		for _, twin := range twins {
			switch other := look(twin.ID).presence; {
			case own.presence == absent && other == present:
				return change{remove, s} // the old folder has come back instead
			case own.caughtUp && other == absent:
				return change{remove, twin}
			}
		}
	}
	for _, a := range applicants {
		twins := twinsOf(servers, a.ID)
		alive := func(twin raft.Server) bool { return look(twin.ID).presence != absent }
		if len(twins) == 0 || slices.ContainsFunc(servers, isServer(a.ID)) || slices.ContainsFunc(twins, alive) {
			continue
		}
		// A non-voter that was lost while it caught up.
		if i := slices.IndexFunc(twins, func(s raft.Server) bool { return s.Suffrage != raft.Voter }); i >= 0 {
			return change{remove, twins[i]}
		}
		return change{admit, a}
	}
	return change{}
}

func isServer(id raft.ServerID) func(raft.Server) bool {
	return func(s raft.Server) bool { return s.ID == id }
}

// twinsOf are the other servers of the same node id.
func twinsOf(servers []raft.Server, id raft.ServerID) []raft.Server {
	var twins []raft.Server
	for _, s := range servers {
		if s.ID != id && nodeOf(s.ID) == nodeOf(id) {
			twins = append(twins, s)
		}
	}
	return twins
}

// keepMembersEvery is how often a leader looks whether a server is to be admitted or promoted.
const keepMembersEvery = 100 * time.Millisecond

// keepMembers makes changes of the configuration, one at a time, until the leadership ends. Nobody
// else makes any.
func (n *Node) keepMembers(lead *Leadership) {
	ticker := time.NewTicker(keepMembersEvery)
	defer ticker.Stop()
	var committed uint64
	for {
		select {
		case <-ticker.C:
		case <-lead.Context.Done():
			return
		}
		servers, applicants := n.servers(), n.applicants.recent()
		// Caught up is who has by now what was committed at the tick before.
		next := nextChange(servers, applicants, func(id raft.ServerID) outlook {
			p := n.presence(id, lead)
			return outlook{p, p == present && committed > 0 && n.transport.hasStored(id, lead.Term, committed)}
		})
		committed = n.committed()
		if next.kind == none {
			continue
		}
		if err := n.makeChange(lead.Context, next); err != nil && lead.Context.Err() == nil {
			n.log.Warn("could not change the replicas of the cluster, trying again", "peer", next.server.ID, "error", err)
		}
	}
}

func (n *Node) makeChange(ctx context.Context, c change) error {
	var future raft.IndexFuture
	switch c.kind {
	case admit:
		n.log.Info("admitting a new data folder in place of one that is gone", "peer", c.server.ID)
		future = n.raft.AddNonvoter(c.server.ID, c.server.Address, 0, enqueueTimeout)
	case remove:
		n.log.Info("removing a data folder that another one replaces", "peer", c.server.ID)
		future = n.raft.RemoveServer(c.server.ID, 0, enqueueTimeout)
	case promote:
		n.log.Info("the new data folder has caught up: it becomes a voter", "peer", c.server.ID)
		future = n.raft.AddVoter(c.server.ID, c.server.Address, 0, enqueueTimeout)
	}
	done := make(chan error, 1)
	go func() { done <- future.Error() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("change the Raft configuration: %w", err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// applicantStays is for how long a server is taken to wait that has not asked again.
const applicantStays = 3 * time.Second

// applicants are servers that have asked this replica to be admitted.
type applicants struct {
	mu   sync.Mutex
	byID map[raft.ServerID]applicant
}

type applicant struct {
	server raft.Server
	asked  time.Time
}

// add remembers a server, with its address as it is now.
func (a *applicants) add(s raft.Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID == nil {
		a.byID = make(map[raft.ServerID]applicant)
	}
	a.byID[s.ID] = applicant{s, time.Now()}
}

// recent returns the servers that still wait, and forgets the others.
func (a *applicants) recent() []raft.Server {
	a.mu.Lock()
	defer a.mu.Unlock()
	var servers []raft.Server
	for id, each := range a.byID {
		if time.Since(each.asked) > applicantStays {
			delete(a.byID, id)
			continue
		}
		servers = append(servers, each.server)
	}
	return servers
}
