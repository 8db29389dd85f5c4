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

// laneLimits: at some 60 bytes a report, an entry stays below the size where the disk, and not
// the fsync, takes the time. The queue is less than a second's work. The second entry is written
// while the first travels; with more under way, entries only get smaller.
var laneLimits = batch.Limits{Batch: 512, Queue: 8192, InFlight: 2}

// enqueueTimeout bounds the wait for raft to take an entry.
const enqueueTimeout = 5 * time.Second

// Propose commits a command and returns what it did. When the context ends first the command
// may still be committed. Errors: ErrNotLeader, ErrInDoubt, ErrOverloaded, ErrNotUnderstood, or
// the context's.
func (n *Node) Propose(ctx context.Context, l Lane, cmd *commandv1.Command) (fsm.Result, error) {
	if n.Leading() == nil {
		return fsm.Result{}, ErrNotLeader
	}
	if !n.understood(cmd) {
		return fsm.Result{}, ErrNotUnderstood
	}
	r, err := n.lanes[l].Do(ctx, cmd)
	switch {
	case errors.Is(err, batch.ErrFull):
		return r, ErrOverloaded
	case errors.Is(err, batch.ErrClosed):
		return r, ErrInDoubt
	}
	return r, err
}

// ProposeAll commits commands that have gathered elsewhere as one entry, and returns what each
// did. Errors are those of Propose, for all of them.
func (n *Node) ProposeAll(cmds []*commandv1.Command) ([]fsm.Result, error) {
	if n.Leading() == nil {
		return nil, ErrNotLeader
	}
	for _, cmd := range cmds {
		if !n.understood(cmd) {
			return nil, ErrNotUnderstood
		}
	}
	return n.commit(cmds)
}

// commit commits commands as one entry: the group commit. What arrives meanwhile shares the next.
func (n *Node) commit(cmds []*commandv1.Command) ([]fsm.Result, error) {
	data, err := fsm.EncodeEntry(&commandv1.Entry{StampUnixMs: time.Now().UnixMilli(), Commands: cmds})
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

// understood says whether every replica knows the command.
func (n *Node) understood(cmd *commandv1.Command) bool {
	since := fsm.Since(cmd)
	return since <= firstVersion || since <= n.clusterVersion()
}

// firstVersion is the command version that every replica knows, announced or not.
const firstVersion = 1

// clusterVersion is the newest command version that every replica understands. One that has not
// announced itself is taken to know the first.
func (n *Node) clusterVersion() uint32 {
	version := uint32(fsm.CommandVersion)
	n.machine.View(func(s *fsm.State) {
		for _, server := range n.servers() {
			known := uint32(firstVersion)
			if m := s.Member(string(server.ID)); m != nil {
				known = m.CommandVersion
			}
			version = min(version, known)
		}
	})
	return version
}
