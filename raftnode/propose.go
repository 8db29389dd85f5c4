package raftnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

var (
	// ErrNotLeader: this replica does not lead, or is not ready to. Nothing was proposed.
	ErrNotLeader = errors.New("this replica is not the leader")
	// ErrInDoubt: leadership was lost while the entry was under way. It may be committed or not;
	// WaitDecided waits until that is known.
	ErrInDoubt = errors.New("leadership was lost while the entry was being committed")
	// ErrOverloaded: too many commands wait. Nothing was proposed.
	ErrOverloaded = errors.New("too many commands are waiting to be committed")
	// ErrNotUnderstood: a replica does not know the command yet. Nothing was proposed.
	ErrNotUnderstood = errors.New("not every replica understands this command yet")
)

// Lane is a queue of proposals. Lanes do not wait for each other.
type Lane int

const (
	// Urgent is for what people wait for: assignments and ends.
	Urgent Lane = iota
	// Bulk is for registrations, reports and heartbeats: many and small.
	Bulk
	lanes
)

// laneLimits count commands: one entry of a lane at a time. Whatever comes meanwhile shares the
// next, and what an entry costs, on every replica, is mostly the same for one command and for
// hundreds. The queue is less than a second's work. A placement is long under way before it comes
// here, so it is worth more to wait for others.
var laneLimits = [lanes]batch.Limits{
	Urgent: {Batch: 2048, Queue: 16384, InFlight: 1, Linger: 4 * time.Millisecond, Probe: 16},
	Bulk:   {Batch: 2048, Queue: 16384, InFlight: 1, Linger: 1500 * time.Microsecond},
}

// enqueueTimeout bounds the wait for raft to take an entry.
const enqueueTimeout = 5 * time.Second

// Propose commits a command and returns what it did. When the context ends first the command
// may still be committed. Errors: ErrNotLeader, ErrInDoubt, ErrOverloaded, ErrNotUnderstood, or
// the context's.
func (n *Node) Propose(ctx context.Context, l Lane, cmd *commandv1.Command) (fsm.Result, error) {
	results, err := n.ProposeAll(ctx, l, []*commandv1.Command{cmd})
	if err != nil {
		return fsm.Result{}, err
	}
	return results[0], nil
}

// ProposeAll commits commands that have gathered elsewhere in one entry, which others may share,
// and returns what each did. Errors are those of Propose, for all of them.
func (n *Node) ProposeAll(ctx context.Context, l Lane, cmds []*commandv1.Command) ([]fsm.Result, error) {
	if n.Leading() == nil {
		return nil, ErrNotLeader
	}
	since := uint32(firstVersion)
	for _, cmd := range cmds {
		if err := fsm.CheckKnown(cmd); err != nil {
			return nil, errors.Join(ErrNotUnderstood, err)
		}
		since = max(since, fsm.Since(cmd))
	}
	if !n.Understands(since) {
		return nil, ErrNotUnderstood
	}
	results, err := n.lanes[l].Do(ctx, cmds)
	switch {
	case errors.Is(err, batch.ErrFull):
		return nil, ErrOverloaded
	case errors.Is(err, batch.ErrClosed):
		return nil, ErrInDoubt
	}
	return results, err
}

// commit commits commands as one entry: the group commit.
func (n *Node) commit(cmds []*commandv1.Command) ([]fsm.Result, error) {
	data, err := fsm.EncodeEntry(&commandv1.Entry{StampUnixMs: n.clock.stampMs(), Commands: cmds})
	if err != nil {
		return nil, err
	}
	future := n.raft.Apply(data, enqueueTimeout)
	if err := future.Error(); err != nil {
		return nil, proposeError(err)
	}
	return future.Response().([]fsm.Result), nil
}

// proposeError tells what certainly did not happen from what may have.
func proposeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return ErrOverloaded
	default:
		return fmt.Errorf("%w (%w)", ErrInDoubt, err)
	}
}

// firstVersion is the command version that every replica knows, announced or not.
const firstVersion = 1

// Understands says whether every replica understands the commands of a version.
func (n *Node) Understands(version uint32) bool {
	if version <= firstVersion {
		return true
	}
	if known := n.version.Load(); known != nil && known.version >= version && time.Since(known.at) < versionKept {
		return true
	}
	known := &knownVersion{n.clusterVersion(), time.Now()}
	n.version.Store(known)
	return known.version >= version
}

// versionKept is how long what every replica understands is taken for known: an older one that is
// added meanwhile says so before it has anything to apply.
const versionKept = 100 * time.Millisecond

type knownVersion struct {
	version uint32
	at      time.Time
}

// clusterVersion is the newest command version that every replica understands. One that has not
// announced itself is taken to know the first.
func (n *Node) clusterVersion() uint32 {
	version := uint32(fsm.CommandVersion)
	n.machine.View(func(s *fsm.State) {
		for _, server := range n.servers() {
			known := uint32(firstVersion)
			if m := s.Member(nodeOf(server.ID)); m != nil {
				known = m.CommandVersion
			}
			version = min(version, known)
		}
	})
	return version
}
