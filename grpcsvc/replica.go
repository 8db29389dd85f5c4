package grpcsvc

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

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
	if len(req.Commands) > submitLimits.Batch {
		return nil, invalidField(&FieldError{Field: "commands", Rule: fmt.Sprintf("must be at most %d", submitLimits.Batch)})
	}
	for i, cmd := range req.Commands {
		if bad := r.checkSubmitted(cmd); bad != nil {
			return nil, invalidField(&FieldError{Field: fmt.Sprintf("commands[%d].%s", i, bad.Field), Rule: bad.Rule})
		}
	}
	results, err := r.proposeAll(ctx, req.Commands)
	if err != nil {
		return nil, replicaStatus(err)
	}
	resp := &replicav1.SubmitResponse{Results: make([]*replicav1.SubmitResult, len(results))}
	for i, result := range results {
		resp.Results[i] = encodeResult(result)
	}
	return resp, nil
}

// checkSubmitted holds what a follower sends to the rules that it should have checked itself: what
// gets into the log stays there. Nothing that the leader alone decides comes from a follower.
func (r replica) checkSubmitted(cmd *commandv1.Command) *FieldError {
	if err := fsm.CheckKnown(cmd); err != nil {
		return &FieldError{Field: "op", Rule: err.Error()}
	}
	switch op := cmd.Op.(type) {
	case *commandv1.Command_RegisterNode:
		n := op.RegisterNode
		return cmp.Or(
			idRule.check("id", n.Id), regionRule.check("region", n.Region), zoneRule.check("zone", n.Zone),
			checkEndpoint("grpc_endpoint", n.GrpcEndpoint), checkEndpoint("webtransport_endpoint", n.WebtransportEndpoint),
			checkCapacity("capacity", n.Capacity))
	case *commandv1.Command_ReportLoad:
		l := op.ReportLoad
		return cmp.Or(
			idRule.check("id", l.Id), checkPercent("cpu_percent", l.CpuPercent),
			checkPercent("memory_percent", l.MemoryPercent), checkPercent("bandwidth_percent", l.BandwidthPercent))
	case *commandv1.Command_AnnounceMember:
		for _, m := range r.node.Status().Members {
			if m.ID == op.AnnounceMember.NodeId {
				return nil
			}
		}
		return &FieldError{Field: "node_id", Rule: "must be a member of the cluster"}
	}
	return &FieldError{Field: "op", Rule: "must be a registration, a report or an announcement"}
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
	switch r.Outcome {
	case fsm.NotRegistered:
		out.Outcome = replicav1.SubmitResult_OUTCOME_NOT_REGISTERED
	case fsm.Repeated:
		out.Outcome = replicav1.SubmitResult_OUTCOME_REPEATED
	}
	return out
}

func decodeResult(r *replicav1.SubmitResult) fsm.Result {
	out := fsm.Result{Index: r.Index, StampMs: r.StampUnixMs}
	switch r.Outcome {
	case replicav1.SubmitResult_OUTCOME_NOT_REGISTERED:
		out.Outcome = fsm.NotRegistered
	case replicav1.SubmitResult_OUTCOME_REPEATED:
		out.Outcome = fsm.Repeated
	}
	return out
}
