package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/fleet"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

const (
	mediaHandlers    = 1000
	controllers      = 20
	existingMeetings = 1000

	fillTimeout = time.Minute
)

func existingMeetingID(i int) string { return fmt.Sprintf("existing-%04d", i) }

// startFleet registers everybody and creates the existing meetings. When it returns, every replica
// knows every meeting.
func startFleet(ctx context.Context, targets string, to *grpcpool.Pool) (*fleet.Fleet, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fillTimeout, errors.New("the fleet did not register in time"))
	defer cancel()
	f, err := fleet.Start(ctx, fleet.Config{
		Targets: targets, CallTimeout: calls.Timeout,
		Controllers: controllers, MediaHandlers: mediaHandlers, StaleAfter: staleAfter,
	})
	if err != nil {
		return nil, err
	}
	if err := createMeetings(ctx, f, to); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func createMeetings(ctx context.Context, f *fleet.Fleet, to *grpcpool.Pool) error {
	err := fleet.Each(ctx, existingMeetings, func(ctx context.Context, i int) error {
		return f.Cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
			id := existingMeetingID(i)
			_, err := conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(ctx,
				&conclavev1.AssignMeetingRequest{MeetingId: id, Region: fleet.Region})
			if err != nil {
				return fmt.Errorf("assign %s: %w", id, err)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	// A linearizable read through a replica waits until that replica has applied what was
	// committed; one through each connection opens them all.
	return fleet.Each(ctx, len(to.Conns()), func(ctx context.Context, i int) error {
		return calls.Get(ctx, to.Conns()[i], existingMeetingID(existingMeetings-1), fleet.Region, conclavev1.Consistency_LINEARIZABLE)
	})
}
