package grpcsvc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// replica is what the other replicas ask of the leader.
type replica struct {
	replicav1.UnimplementedReplicaServiceServer
	*Server
}

// ReadIndex confirms that this replica leads.
func (r replica) ReadIndex(ctx context.Context, _ *replicav1.ReadIndexRequest) (*replicav1.ReadIndexResponse, error) {
	read, err := r.node.ReadIndex(ctx)
	if err != nil {
		return nil, replicaStatus(err)
	}
	return &replicav1.ReadIndexResponse{Index: read.Index, Term: read.Term}, nil
}

// Submit commits what a follower received.
func (r replica) Submit(ctx context.Context, req *replicav1.SubmitRequest) (*replicav1.SubmitResponse, error) {
	for i, cmd := range req.Commands {
		if !submittable(cmd) {
			return nil, status.Errorf(codes.InvalidArgument, "commands[%d]: not a registration, report or announcement", i)
		}
	}
	for _, cmd := range req.Commands {
		r.heard(cmd)
	}
	results, err := r.node.ProposeAll(ctx, raftnode.Bulk, req.Commands)
	if err != nil {
		return nil, replicaStatus(err)
	}
	resp := &replicav1.SubmitResponse{Results: make([]*replicav1.SubmitResult, len(results))}
	for i, result := range results {
		resp.Results[i] = encodeResult(result)
	}
	return resp, nil
}

// submittable: nothing that is decided by the leader alone comes from a follower.
func submittable(cmd *commandv1.Command) bool {
	switch cmd.Op.(type) {
	case *commandv1.Command_RegisterNode, *commandv1.Command_ReportLoad, *commandv1.Command_AnnounceMember:
		return true
	}
	return false
}

// replicaStatus tells the replica that asked to look for the leader again.
func replicaStatus(err error) error {
	if errors.Is(err, raftnode.ErrNotLeader) || errors.Is(err, raftnode.ErrInDoubt) {
		return statusError(codes.FailedPrecondition, reasonNotLeader, "this replica does not lead", nil)
	}
	return err
}

func encodeResult(r fsm.Result) *replicav1.SubmitResult {
	out := &replicav1.SubmitResult{Index: r.Index, StampUnixMs: r.StampMs, Outcome: replicav1.SubmitResult_OUTCOME_APPLIED}
	if r.Outcome == fsm.NotRegistered {
		out.Outcome = replicav1.SubmitResult_OUTCOME_NOT_REGISTERED
	}
	return out
}

func decodeResult(r *replicav1.SubmitResult) fsm.Result {
	out := fsm.Result{Index: r.Index, StampMs: r.StampUnixMs}
	if r.Outcome == replicav1.SubmitResult_OUTCOME_NOT_REGISTERED {
		out.Outcome = fsm.NotRegistered
	}
	return out
}
