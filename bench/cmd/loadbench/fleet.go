package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

const (
	region           = "local"
	mediaHandlers    = 1000
	controllers      = 20
	existingMeetings = 1000

	// Nobody runs out of room while there is measured.
	maxStreams  = 1_000_000_000
	maxMeetings = 1_000_000

	// registering is how many calls at once fill the cluster.
	registering = 32
	fillTimeout = time.Minute
)

var zones = []string{"a", "b", "c"}

// fleet is what stands around the replicas: controllers that answer and send heartbeats, media
// handlers that are only names, and meetings that are live already.
type fleet struct {
	cluster     *sim.Cluster
	controllers []*sim.MeetingController
	endRun      context.CancelFunc
	running     sync.WaitGroup
}

func mediaHandlerID(i int) string    { return fmt.Sprintf("mh-%04d", i) }
func existingMeetingID(i int) string { return fmt.Sprintf("existing-%04d", i) }

// startFleet registers everybody. When it returns, every replica knows every meeting.
func startFleet(ctx context.Context, targets string, to *target) (*fleet, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fillTimeout, errors.New("the fleet did not register in time"))
	defer cancel()
	cluster, err := sim.Dial(targets, callTimeout)
	if err != nil {
		return nil, err
	}
	f := &fleet{cluster: cluster, endRun: func() {}}
	if err := f.populate(ctx, to); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *fleet) populate(ctx context.Context, to *target) error {
	if err := f.startControllers(ctx); err != nil {
		return err
	}
	if err := each(ctx, mediaHandlers, f.introduce); err != nil {
		return err
	}
	if err := each(ctx, existingMeetings, f.createMeeting); err != nil {
		return err
	}
	// A linearizable read through a replica waits until that replica has applied what was
	// committed; one through each connection opens them all.
	return each(ctx, len(to.conns), func(ctx context.Context, i int) error {
		return getAssignment(ctx, to.conns[i], existingMeetings-1, conclavev1.Consistency_LINEARIZABLE)
	})
}

func (f *fleet) startControllers(ctx context.Context) error {
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	f.endRun = end
	for i := range controllers {
		mc, err := sim.NewMeetingController(f.cluster, sim.MeetingControllerConfig{
			ID: fmt.Sprintf("mc-%02d", i), Region: region, Zone: zones[i%len(zones)],
			MaxMeetings: maxMeetings, StaleAfter: staleAfter,
		})
		if err != nil {
			return err
		}
		f.controllers = append(f.controllers, mc)
		// The first heartbeat, after which it can be chosen.
		if err := mc.FastHeartbeat(ctx); err != nil {
			return err
		}
		f.running.Go(func() { mc.Run(run) })
	}
	return nil
}

// introduce registers a media handler, and reports for it once, after which it can be chosen.
func (f *fleet) introduce(ctx context.Context, i int) error {
	id := mediaHandlerID(i)
	return f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		client := darktowerv1.NewMediaHandlerRegistryServiceClient(conn)
		_, err := client.RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
			HandlerId: id, Region: region, Zone: zones[i%len(zones)], MaxStreams: maxStreams,
			WebtransportEndpoint: "https://" + id + ".bench.invalid:4433",
			GrpcEndpoint:         "http://" + id + ".bench.invalid:50052",
		})
		if err != nil {
			return fmt.Errorf("register %s: %w", id, err)
		}
		return sendLoadReport(ctx, conn, id, 0)
	})
}

func (f *fleet) createMeeting(ctx context.Context, i int) error {
	return f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		id := existingMeetingID(i)
		_, err := conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(ctx,
			&conclavev1.AssignMeetingRequest{MeetingId: id, Region: region})
		if err != nil {
			return fmt.Errorf("assign %s: %w", id, err)
		}
		return nil
	})
}

func (f *fleet) close() error {
	f.endRun()
	f.running.Wait()
	for _, mc := range f.controllers {
		mc.Stop()
	}
	return f.cluster.Close()
}

// each calls do for 0 to n-1, several at once.
func each(ctx context.Context, n int, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(registering)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
