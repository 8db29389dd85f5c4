package main

import (
	"context"
	"testing"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/calls"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// otherMeeting is a cluster that is quick and wrong.
type otherMeeting struct{ grpc.ClientConnInterface }

func (otherMeeting) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	switch reply := reply.(type) {
	case *conclavev1.GetAssignmentResponse:
		reply.Assignment = &conclavev1.Assignment{MeetingId: "another"}
	case *conclavev1.AssignMeetingResponse:
		reply.Assignment = &conclavev1.Assignment{MeetingId: "another"}
	}
	return nil
}

func TestWrongAnswersAreFailures(t *testing.T) {
	for _, w := range workloads {
		if got := calls.Reason(w.call(t.Context(), otherMeeting{}, "run", 1)); got != "WRONG_ANSWER" {
			t.Errorf("%s: a wrong answer counts as %s", w.name, got)
		}
	}
}
