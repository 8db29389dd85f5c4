package raftnode

import (
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// growth is how much of the log this replica would have to apply again if it started now, in bytes. Raft
// counts entries, but one may hold a single command or thousands.
type growth struct {
	applied atomic.Uint64 // since the process began
	covered atomic.Uint64 // of these, what the last snapshot covers
	writing atomic.Bool   // a snapshot is being written
}

func (g *growth) uncovered() uint64 {
	covered := g.covered.Load() // first: it never exceeds what is applied then
	return g.applied.Load() - covered
}

// cover notes that a snapshot covers what had been applied when it was begun.
func (g *growth) cover(applied uint64) {
	for covered := g.covered.Load(); covered < applied && !g.covered.CompareAndSwap(covered, applied); {
		covered = g.covered.Load() // a snapshot from the leader may overtake one of our own
	}
}

// compact takes a snapshot whenever the log has grown too long since the last. (Raft takes one for the
// number of entries, too.)
func (n *Node) compact() {
	interval := n.config.Retention.SnapshotInterval
	for {
		select {
		case <-time.After(interval + rand.N(interval)): // not on all replicas at once
		case <-n.done:
			return
		}
		if !n.snapshotDue() {
			continue
		}
		if err := n.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
			n.log.Warn("the log has grown long, but no snapshot could be taken", "error", err)
		}
	}
}

// snapshotDue says whether the log since the last snapshot is better replaced by another. To apply a byte
// of the log takes up to three times as long as to read one of a snapshot, so with a quarter of its size
// a start takes less than twice what reading the snapshot takes, beside what is logged before this is
// looked at next.
func (n *Node) snapshotDue() bool {
	least, logged := n.config.Retention.SnapshotLogBytes, n.growth.uncovered()
	return least > 0 && !n.growth.writing.Load() && logged >= least && logged >= n.snapshotSize()/4
}

// snapshotSize is that of the newest snapshot; 0 when there is none, as then it is high time for one.
func (n *Node) snapshotSize() uint64 { return uint64(n.stores.newestSnapshot().Size) }
