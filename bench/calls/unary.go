package calls

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// Timeout is what a patient client gives a call.
const Timeout = 10 * time.Second

// Report sends the load report of a media handler. Its figures differ from call to call.
func Report(ctx context.Context, conn grpc.ClientConnInterface, id string, seq int) error {
	resp, err := darktowerv1.NewMediaHandlerRegistryServiceClient(conn).SendLoadReport(ctx, &darktowerv1.SendLoadReportRequest{
		HandlerId: id, CurrentStreams: uint32(seq % 1000), Health: darktowerv1.HealthStatus_HEALTHY,
		CpuUsagePercent: float32(seq % 50), MemoryUsagePercent: float32(seq % 40), BandwidthUsagePercent: float32(seq % 30),
	})
	if err != nil {
		return fmt.Errorf("report for %s: %w", id, err)
	}
	if !resp.Acknowledged {
		return ErrWrong
	}
	return nil
}

// Assign joins a meeting, which is new or is there already, as isNew says.
func Assign(ctx context.Context, conn grpc.ClientConnInterface, id, region string, isNew bool) error {
	resp, err := conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(ctx,
		&conclavev1.AssignMeetingRequest{MeetingId: id, Region: region})
	if err != nil {
		return fmt.Errorf("assign %s: %w", id, err)
	}
	if resp.Created != isNew || resp.Assignment.GetMeetingId() != id || len(resp.Assignment.GetMhAssignments()) != 2 {
		return ErrWrong
	}
	return nil
}

// Get reads the assignment of a meeting.
func Get(ctx context.Context, conn grpc.ClientConnInterface, id, region string, c conclavev1.Consistency) error {
	resp, err := conclavev1.NewAssignmentServiceClient(conn).GetAssignment(ctx,
		&conclavev1.GetAssignmentRequest{MeetingId: id, Region: region, Consistency: c})
	if err != nil {
		return fmt.Errorf("get %s: %w", id, err)
	}
	if resp.Assignment.GetMeetingId() != id {
		return ErrWrong
	}
	return nil
}

// ErrWrong: the answer was a success and not what was asked for.
var ErrWrong = errors.New("wrong answer")

// Reason names an error in a sample.
func Reason(err error) string {
	if errors.Is(err, ErrWrong) {
		return "WRONG_ANSWER"
	}
	return sim.Reason(err)
}
