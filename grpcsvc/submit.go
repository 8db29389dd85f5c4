package grpcsvc

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// submitLimits: what nodes report at a follower goes to the leader in messages that many share.
// The second gathers commands for the leader's next entry while the first is being committed.
var submitLimits = batch.Limits{Batch: 512, Queue: 8192, InFlight: 2}

// submitTimeout bounds one message to the leader.
const submitTimeout = 5 * time.Second

// submit commits a registration, a report or an announcement, here or at the leader. Each may be
// sent twice without harm: a registration by its id, the others by what they say.
func (s *Server) submit(ctx context.Context, cmd *commandv1.Command) (fsm.Result, error) {
	return atLeader(ctx, s, "Submit",
		func() (fsm.Result, error) { return s.propose(ctx, cmd) },
		func(ctx context.Context, _ *grpc.ClientConn) (fsm.Result, error) {
			return s.submits.Do(ctx, cmd)
		})
}

// propose commits a command at the leader.
func (s *Server) propose(ctx context.Context, cmd *commandv1.Command) (fsm.Result, error) {
	s.heard(cmd)
	return s.node.Propose(ctx, raftnode.Bulk, cmd)
}

// heard counts a node as heard from the moment its word reached the leader, however long the
// commit takes.
func (s *Server) heard(cmd *commandv1.Command) {
	switch op := cmd.Op.(type) {
	case *commandv1.Command_ReportLoad:
		s.assigner.Heard(op.ReportLoad.Kind, op.ReportLoad.Id)
	case *commandv1.Command_RegisterNode:
		s.assigner.Heard(op.RegisterNode.Kind, op.RegisterNode.Id)
	}
}

// submitToLeader sends one message with the commands of many calls. A command that the leader
// could not commit makes its own call look for the leader again.
func (s *Server) submitToLeader(cmds []*commandv1.Command) ([]fsm.Result, error) {
	leader := s.peers.leader()
	if leader == nil {
		return nil, errNoLeaderYet
	}
	ctx, cancel := context.WithTimeout(context.Background(), submitTimeout)
	defer cancel()
	attempt, cancelAttempt := leader.bind(ctx)
	defer cancelAttempt()
	resp, err := replicav1.NewReplicaServiceClient(leader.conn).
		Submit(attempt, &replicav1.SubmitRequest{Commands: cmds})
	if err != nil {
		if ctx.Err() != nil {
			return nil, errNoLeaderYet
		}
		return nil, remoteError(ctx, attempt, err)
	}
	if len(resp.Results) != len(cmds) {
		return nil, fmt.Errorf("the leader answered %d of %d commands", len(resp.Results), len(cmds))
	}
	results := make([]fsm.Result, len(cmds))
	for i, r := range resp.Results {
		results[i] = decodeResult(r)
	}
	return results, nil
}
