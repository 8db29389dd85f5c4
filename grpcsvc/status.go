package grpcsvc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	"github.com/conclave-rtc/conclave/raftnode"
)

// statusOf makes a status of what a handler returned.
func statusOf(ctx context.Context, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	switch {
	case errors.Is(err, raftnode.ErrOverloaded), errors.Is(err, batch.ErrFull):
		return errOverloaded
	case tryAgain(err), errors.Is(err, batch.ErrClosed):
		return noLeader()
	case errors.Is(err, raftnode.ErrNotUnderstood):
		return status.Error(codes.Unimplemented, err.Error())
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Internal, err.Error())
}

// placementStatus makes a status of why a meeting could not be placed or ended.
func placementStatus(err error, key fsm.MeetingKey, token uint64) error {
	var rejected *assign.RejectedError
	switch {
	case errors.Is(err, assign.ErrNoMediaHandlers):
		return noMediaHandlers(key.Region)
	case errors.Is(err, assign.ErrNoControllers):
		return noMeetingControllers(key.Region)
	case errors.Is(err, assign.ErrUnreachable):
		return controllersUnreachable()
	case errors.As(err, &rejected):
		return controllersRejected(rejected.Reason)
	case errors.Is(err, assign.ErrNoAssignment):
		return noAssignment(key.MeetingID, key.Region)
	case errors.Is(err, assign.ErrFenced):
		return fenced(key.MeetingID, key.Region, token)
	}
	return err
}
