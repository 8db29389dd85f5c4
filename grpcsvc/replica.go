package grpcsvc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// replica is what the other replicas ask of the leader.
type replica struct {
	replicav1.UnimplementedReplicaServiceServer
	*Server
}

const (
	// maxForwardedJoins is how many joins of one stream are under way; more are refused. Those whose
	// callers have gone are among them, and must not keep reads and reports out.
	maxForwardedJoins = 4096
	// maxForwardedOthers is the same for other requests; more are not received meanwhile.
	maxForwardedOthers = 64
	// maxForwardTimeout is the longest that an answer is waited for.
	maxForwardTimeout = time.Hour
)

// Forward answers what another replica asks.
func (r replica) Forward(stream replicav1.ReplicaService_ForwardServer) error {
	f := &forwardStream{
		replica: r, stream: stream,
		joinRoom: semaphore.NewWeighted(maxForwardedJoins), otherRoom: semaphore.NewWeighted(maxForwardedOthers),
	}
	ended := make(chan error, 1)
	go func() { ended <- f.receive() }()
	select {
	case err := <-ended:
		return err
	case <-r.stopping:
		// What was received before is answered. This fails if nobody waits for the answers.
		_ = f.otherRoom.Acquire(stream.Context(), maxForwardedOthers)
		_ = f.joinRoom.Acquire(stream.Context(), maxForwardedJoins)
		return errStopping()
	}
}

// forwardStream is one stream of requests, each with a goroutine of its own.
type forwardStream struct {
	replica
	stream              replicav1.ReplicaService_ForwardServer
	joinRoom, otherRoom *semaphore.Weighted
	sending             sync.Mutex // a stream takes one message at a time
}

func (f *forwardStream) receive() error {
	for {
		req, err := f.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		room := f.otherRoom
		if req.GetAssignMeeting() != nil {
			if room = f.joinRoom; !room.TryAcquire(1) {
				f.send(req, nil, f.overloaded(conclavev1.AssignmentService_AssignMeeting_FullMethodName))
				continue
			}
		} else if err := room.Acquire(f.stream.Context(), 1); err != nil {
			return err
		}
		go func() {
			defer room.Release(1)
			f.serve(req)
		}()
	}
}

func (f *forwardStream) serve(req *replicav1.ForwardRequest) {
	ctx := f.stream.Context()
	if req.TimeoutUs > 0 {
		timeout := time.Duration(min(req.TimeoutUs, uint64(maxForwardTimeout.Microseconds()))) * time.Microsecond
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	resp, err := f.answer(ctx, req)
	if err != nil {
		err = statusOf(ctx, replicaStatus(err))
	}
	f.send(req, resp, err)
}

// send answers a request: an error, which is a status, or else a response.
func (f *forwardStream) send(req *replicav1.ForwardRequest, resp *replicav1.ForwardResponse, err error) {
	if err != nil {
		resp = &replicav1.ForwardResponse{Error: encodeStatus(err)}
	}
	resp.Number = req.Number
	f.sending.Lock()
	defer f.sending.Unlock()
	_ = f.stream.Send(resp) // it fails when the stream has ended, which who asked knows
}

func (f *forwardStream) answer(ctx context.Context, req *replicav1.ForwardRequest) (resp *replicav1.ForwardResponse, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = f.recovered(ctx, p)
		}
	}()
	switch r := req.Request.(type) {
	case *replicav1.ForwardRequest_ReadIndex:
		return f.answerReadIndex(ctx)
	case *replicav1.ForwardRequest_Submit:
		return f.answerSubmit(ctx, r.Submit)
	case *replicav1.ForwardRequest_AssignMeeting:
		return f.answerJoin(ctx, r.AssignMeeting, req.RequestId)
	}
	return nil, status.Error(codes.Unimplemented, "this replica does not know the request: it is older than who asks")
}

func (r replica) answerReadIndex(ctx context.Context) (*replicav1.ForwardResponse, error) {
	read, err := r.node.ReadIndex(ctx)
	if err != nil {
		return nil, err
	}
	return &replicav1.ForwardResponse{Response: &replicav1.ForwardResponse_ReadIndex{
		ReadIndex: &replicav1.ReadIndexResponse{Index: read.Index, Term: read.Term},
	}}, nil
}

// answerSubmit commits what a follower received.
func (r replica) answerSubmit(ctx context.Context, req *replicav1.SubmitRequest) (*replicav1.ForwardResponse, error) {
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
		return nil, err
	}
	resp := &replicav1.SubmitResponse{Results: make([]*replicav1.SubmitResult, len(results))}
	for i, result := range results {
		resp.Results[i] = encodeResult(result)
	}
	return &replicav1.ForwardResponse{Response: &replicav1.ForwardResponse_Submit{Submit: resp}}, nil
}

func (r replica) answerJoin(ctx context.Context, req *conclavev1.AssignMeetingRequest, call uint64) (*replicav1.ForwardResponse, error) {
	if bad := validate(req); bad != nil {
		return nil, invalidField(bad)
	}
	p, err := r.join(ctx, r.joining(req, call))
	if err != nil {
		return nil, err
	}
	return &replicav1.ForwardResponse{Response: &replicav1.ForwardResponse_AssignMeeting{
		AssignMeeting: &replicav1.AssignMeetingResult{Response: encodePlacement(p), Index: p.Index},
	}}, nil
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
