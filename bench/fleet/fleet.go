package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

const (
	// Region is where all of the fleet is.
	Region = "local"

	// Nobody runs out of room while there is measured.
	maxStreams  = 1_000_000_000
	maxMeetings = 1_000_000

	// registering is how many calls at once fill the cluster.
	registering = 32
)

var zones = []string{"a", "b", "c"}

// Config describes a fleet.
type Config struct {
	// Targets are the gRPC addresses of all replicas, comma separated.
	Targets string
	// CallTimeout bounds each attempt of a call to a replica.
	CallTimeout time.Duration
	// Controllers and MediaHandlers are how many.
	Controllers, MediaHandlers int
	// StaleAfter is the replicas' --stale-after: so long media handlers live on one report.
	StaleAfter time.Duration
}

// Fleet is registered and ready to be chosen from.
type Fleet struct {
	// Cluster calls any replica, and another one when it fails.
	Cluster *sim.Cluster

	config      Config
	controllers []*sim.MeetingController
	endRun      context.CancelFunc
	running     sync.WaitGroup
}

// MediaHandlerID names a media handler, by its number from 0.
func MediaHandlerID(i int) string { return fmt.Sprintf("mh-%04d", i) }

// Start registers everybody. The controllers live until Close, whatever becomes of ctx.
func Start(ctx context.Context, c Config) (*Fleet, error) {
	cluster, err := sim.Dial(c.Targets, c.CallTimeout)
	if err != nil {
		return nil, err
	}
	f := &Fleet{Cluster: cluster, config: c, endRun: func() {}}
	if err := f.startControllers(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := Each(ctx, c.MediaHandlers, f.introduce); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (f *Fleet) startControllers(ctx context.Context) error {
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	f.endRun = end
	for i := range f.config.Controllers {
		mc, err := sim.NewMeetingController(f.Cluster, sim.MeetingControllerConfig{
			ID: fmt.Sprintf("mc-%02d", i), Region: Region, Zone: zones[i%len(zones)],
			MaxMeetings: maxMeetings, StaleAfter: f.config.StaleAfter,
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
func (f *Fleet) introduce(ctx context.Context, i int) error {
	id := MediaHandlerID(i)
	return f.Cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		client := darktowerv1.NewMediaHandlerRegistryServiceClient(conn)
		_, err := client.RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
			HandlerId: id, Region: Region, Zone: zones[i%len(zones)], MaxStreams: maxStreams,
			WebtransportEndpoint: "https://" + id + ".bench.invalid:4433",
			GrpcEndpoint:         "http://" + id + ".bench.invalid:50052",
		})
		if err != nil {
			return fmt.Errorf("register %s: %w", id, err)
		}
		_, err = client.SendLoadReport(ctx, &darktowerv1.SendLoadReportRequest{
			HandlerId: id, Health: darktowerv1.HealthStatus_HEALTHY,
		})
		if err != nil {
			return fmt.Errorf("report for %s: %w", id, err)
		}
		return nil
	})
}

// Close ends the controllers.
func (f *Fleet) Close() error {
	f.endRun()
	f.running.Wait()
	for _, mc := range f.controllers {
		mc.Stop()
	}
	return f.Cluster.Close()
}

// Each calls do for 0 to n-1, several at once, and returns the first error.
func Each(ctx context.Context, n int, do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(registering)
	for i := range n {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
