package raftnode

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/fsm"
)

// ReadIndex is an index and the term whose leader confirmed it.
type ReadIndex struct {
	Index uint64
	Term  uint64
}

// maxConfirm bounds one round of confirmation.
const maxConfirm = 2 * time.Second

var errNotConfirmed = errors.New("leadership could not be confirmed in time")

// ReadIndex returns an index that reflects every write acknowledged before the call: the commit
// index as it was when a round of heartbeats that confirmed this leader's term began, not before
// the call (Ongaro's thesis, section 6.4, without its leases). A read waits until its replica
// has applied that index. Calls that come while a round is under way share the next one. Errors:
// ErrNotLeader, or the context's.
func (n *Node) ReadIndex(ctx context.Context) (ReadIndex, error) {
	return n.reads.Do(ctx, n.confirm)
}

// confirm is one round.
func (n *Node) confirm() (ReadIndex, error) {
	lead := n.Leading()
	if lead == nil {
		return ReadIndex{}, ErrNotLeader
	}
	read := ReadIndex{Index: n.committed(), Term: lead.Term}
	began := time.Now()
	for time.Since(began) < maxConfirm && n.Leading() == lead {
		if err := n.raft.VerifyLeader().Error(); err != nil {
			return ReadIndex{}, ErrNotLeader
		}
		// VerifyLeader counts acknowledgements that were under way before the round began.
		// A leader that was stopped and continued finds some in its socket buffers; they
		// say that it led once. Ask until a quorum has answered what was asked since.
		if n.quorumAckedSince(lead.Term, began) {
			if n.raft.CurrentTerm() != lead.Term || n.Leading() != lead {
				return ReadIndex{}, ErrNotLeader
			}
			return read, nil
		}
	}
	return ReadIndex{}, errors.Join(ErrNotLeader, errNotConfirmed)
}

func (n *Node) quorumAckedSince(term uint64, since time.Time) bool {
	self := n.dir.self().serverID()
	voters, acked := 0, 0
	for _, s := range n.servers() {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if s.ID == self || n.transport.ackedSince(s.ID, term, since) {
			acked++
		}
	}
	return acked > voters/2
}

// WaitApplied returns once this replica has applied an index, or the context's error.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error {
	return n.applied.wait(ctx, n.done, index)
}

// WaitDecided returns once everything that was proposed in a term is decided and applied here:
// when an entry of a later term has been.
func (n *Node) WaitDecided(ctx context.Context, term uint64) error {
	for {
		var index, now uint64
		n.machine.View(func(s *fsm.State) { index, now = s.Index(), s.Term() })
		if now > term {
			return nil
		}
		if err := n.WaitApplied(ctx, index+1); err != nil {
			return err
		}
	}
}
