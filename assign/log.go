package assign

import (
	"context"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Log is the replicated log as the leader's work needs it; a raftnode.Node is one.
type Log interface {
	ID() string
	Machine() *fsm.Machine
	Propose(ctx context.Context, lane raftnode.Lane, cmd *commandv1.Command) (fsm.Result, error)
	ReadIndex(ctx context.Context) (raftnode.ReadIndex, error)
	WaitApplied(ctx context.Context, index uint64) error
	WaitDecided(ctx context.Context, term uint64) error
	Understands(version uint32) bool
}

var _ Log = (*raftnode.Node)(nil)
