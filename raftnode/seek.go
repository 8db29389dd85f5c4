package raftnode

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// A new replica asks the others at once, then less and less often. The last one to start is
	// not waited for longer than seekLast, and it wakes the founder.
	seekFirst = 25 * time.Millisecond
	seekLast  = time.Second
	// leaderless is for how long a replica that has joined knows no leader before it asks: an
	// election takes less.
	leaderless = time.Second
	// tellFirst is when it is first said what is waited for; then less and less often.
	tellFirst = 2 * time.Second
	tellLast  = time.Minute
)

// report is what a peer has answered.
type report struct {
	nodeID string
	answer
	err error
}

// seeker looks for the others while no leader is known: see seek.
type seeker struct {
	*Node
	since    time.Time // when the leader was missed; zero while there is one
	pause    time.Duration
	tellAt   time.Time
	tellNext time.Duration
}

// seek asks the other replicas where this one stands, whenever it has no leader: to found a cluster,
// to be admitted to one, to learn that it was replaced, and to tell the operator what it waits for.
func (n *Node) seek() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-n.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	s := seeker{Node: n}
	for {
		pause := s.step(ctx)
		select {
		case <-time.After(pause):
		case <-n.woken:
		case <-n.done:
			return
		}
	}
}

// step does what is to be done now, and returns when to look again.
func (s *seeker) step(ctx context.Context) time.Duration {
	if s.Leader() != "" {
		s.since = time.Time{}
		return leaderless / 2
	}
	now := time.Now()
	if s.since.IsZero() {
		s.since, s.pause = now, seekFirst
		s.tellAt, s.tellNext = now.Add(tellFirst), tellFirst
	}
	self := s.dir.self()
	if self.Joined && now.Sub(s.since) < leaderless {
		return leaderless / 4
	}
	reports := s.askPeers(ctx, self)
	if ctx.Err() != nil || len(reports) == 0 {
		return seekLast
	}
	if self.Joined {
		s.pause = seekLast
		if i := slices.IndexFunc(reports, func(r report) bool { return r.Standing == standingReplaced }); i >= 0 {
			s.config.Fatal(fmt.Errorf("the data folder %s is no longer that of %s (%s): to run %s here, stop the other one and empty this folder",
				s.dir.path, self.NodeID, reports[i].Reason, self.NodeID))
		}
	} else if servers, ok := founders(self, &s.config, reports); ok {
		if err := s.found(servers); err != nil {
			s.config.Fatal(err)
		}
	}
	if now.After(s.tellAt) && !s.joinedSince(self) {
		s.tell(reports, self)
		s.tellNext = min(2*s.tellNext, tellLast)
		s.tellAt = now.Add(s.tellNext)
	}
	pause := s.pause
	s.pause = min(2*s.pause, seekLast)
	return pause
}

func (s *seeker) joinedSince(self identity) bool { return s.dir.self().Joined != self.Joined }

// wake makes a founder ask again: a new replica has come up.
func (n *Node) wake(by raft.ServerID) {
	if _, known := n.met.LoadOrStore(by, true); known {
		return // or two new replicas would wake each other all the time
	}
	select {
	case n.woken <- struct{}{}:
	default:
	}
}

// askPeers asks all other replicas at the same time.
func (n *Node) askPeers(ctx context.Context, self identity) []report {
	peers := n.peers(self)
	reports := make([]report, len(peers))
	var asked sync.WaitGroup
	for i, peer := range peers {
		asked.Go(func() {
			reports[i] = report{nodeID: peer.ID}
			reports[i].answer, reports[i].err = n.ask(ctx, self, peer)
		})
	}
	asked.Wait()
	return reports
}

// peers are the other replicas: of the configuration, or else of the initial cluster.
func (n *Node) peers(self identity) []Server {
	var peers []Server
	for _, s := range n.servers() {
		_, at := splitAddress(s.Address)
		known := func(p Server) bool { return p.RaftAddress == at }
		if nodeOf(s.ID) != self.NodeID && !slices.ContainsFunc(peers, known) {
			peers = append(peers, Server{ID: nodeOf(s.ID), RaftAddress: at})
		}
	}
	if len(peers) > 0 {
		return peers
	}
	for _, s := range n.config.initialCluster() {
		if s.ID != self.NodeID {
			peers = append(peers, s)
		}
	}
	return peers
}

func (n *Node) ask(ctx context.Context, self identity, peer Server) (answer, error) {
	conn, a, err := call(ctx, peer.RaftAddress, hello{
		Purpose: forStanding, From: self.serverID(), To: raft.ServerID(peer.ID),
		Joined: self.Joined, Cluster: self.Cluster,
		Address: n.config.RaftAdvertise, Initial: n.config.initialNodes(),
	})
	if err != nil {
		return answer{}, err
	}
	conn.Close()
	if nodeOf(a.From) != peer.ID {
		return answer{}, fmt.Errorf("%s answers at the address of %s: check the addresses of the initial cluster", nodeOf(a.From), peer.ID)
	}
	return a, nil
}
