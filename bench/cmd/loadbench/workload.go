package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/measure"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// callTimeout is what a patient client has.
const callTimeout = 10 * time.Second

// workload is one kind of call.
type workload struct {
	name string
	// call makes one call. Callers of one workload never have the same seq, and use all of them
	// from 0 about in order.
	call func(ctx context.Context, conn grpc.ClientConnInterface, run string, seq int) error
}

// echoWorkload goes to the echo server, not to the cluster.
const echoWorkload = "echo"

// workloads are measured in this order: the one that leaves live meetings behind comes last.
var workloads = []workload{
	{"report", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return sendLoadReport(ctx, conn, mediaHandlerID(seq%mediaHandlers), seq)
	}},
	{"assign-existing", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return assignMeeting(ctx, conn, existingMeetingID(seq%existingMeetings), false)
	}},
	{"get-linearizable", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return getAssignment(ctx, conn, seq%existingMeetings, conclavev1.Consistency_LINEARIZABLE)
	}},
	{"get-stale", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return getAssignment(ctx, conn, seq%existingMeetings, conclavev1.Consistency_STALE)
	}},
	{"assign-new", func(ctx context.Context, conn grpc.ClientConnInterface, run string, seq int) error {
		return assignMeeting(ctx, conn, run+"-"+strconv.Itoa(seq), true)
	}},
}

func workloadNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// caller makes the calls of one caller of a workload.
func (w workload) caller(to *target, run string, callers, caller int) measure.Caller {
	return func(ctx context.Context, n int) error {
		return w.call(ctx, to.conn(callers, caller, n), run, caller+n*callers)
	}
}

// echoCaller sends the echo server what the cluster's load reports are.
func echoCaller(to *target, callers, caller int) measure.Caller {
	return func(ctx context.Context, n int) error {
		seq := caller + n*callers
		return sendLoadReport(ctx, to.conn(callers, caller, n), mediaHandlerID(seq%mediaHandlers), seq)
	}
}

func sendLoadReport(ctx context.Context, conn grpc.ClientConnInterface, id string, seq int) error {
	resp, err := darktowerv1.NewMediaHandlerRegistryServiceClient(conn).SendLoadReport(ctx, &darktowerv1.SendLoadReportRequest{
		HandlerId: id, CurrentStreams: uint32(seq % 1000), Health: darktowerv1.HealthStatus_HEALTHY,
		CpuUsagePercent: float32(seq % 50), MemoryUsagePercent: float32(seq % 40), BandwidthUsagePercent: float32(seq % 30),
	})
	if err != nil {
		return fmt.Errorf("report for %s: %w", id, err)
	}
	if !resp.Acknowledged {
		return errWrong
	}
	return nil
}

func assignMeeting(ctx context.Context, conn grpc.ClientConnInterface, id string, isNew bool) error {
	resp, err := conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(ctx,
		&conclavev1.AssignMeetingRequest{MeetingId: id, Region: region})
	if err != nil {
		return fmt.Errorf("assign %s: %w", id, err)
	}
	if resp.Created != isNew || resp.Assignment.GetMeetingId() != id || len(resp.Assignment.GetMhAssignments()) != 2 {
		return errWrong
	}
	return nil
}

func getAssignment(ctx context.Context, conn grpc.ClientConnInterface, meeting int, c conclavev1.Consistency) error {
	id := existingMeetingID(meeting)
	resp, err := conclavev1.NewAssignmentServiceClient(conn).GetAssignment(ctx,
		&conclavev1.GetAssignmentRequest{MeetingId: id, Region: region, Consistency: c})
	if err != nil {
		return fmt.Errorf("get %s: %w", id, err)
	}
	if resp.Assignment.GetMeetingId() != id {
		return errWrong
	}
	return nil
}

// errWrong: the answer was a success and not what was asked for. Fast wrong answers must not count.
var errWrong = errors.New("wrong answer")

func reasonOf(err error) string {
	if errors.Is(err, errWrong) {
		return "WRONG_ANSWER"
	}
	return sim.Reason(err)
}
