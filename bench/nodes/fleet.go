package nodes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

const (
	// maxStreams: no media handler runs out of room while a cluster is measured.
	maxStreams = 1_000_000
	// registering is how many calls at once fill the cluster.
	registering = 128
	callTimeout = 10 * time.Second
)

// Fleet is a fleet that is registered. Its controllers answer and send heartbeats until Close;
// reporting for its media handlers is the caller's part.
type Fleet struct {
	Size

	cluster     *sim.Cluster
	controllers *controllers
	endBeats    context.CancelFunc
	beats       sync.WaitGroup
	missed      atomic.Int64
}

// Start registers everybody at the replicas "addr,addr,…". When it returns, every node has reported
// once and can be chosen.
func Start(ctx context.Context, targets string, size Size) (*Fleet, error) {
	if size.Regions < 1 {
		return nil, errors.New("start the fleet: it needs a region")
	}
	cluster, err := sim.Dial(targets, callTimeout)
	if err != nil {
		return nil, fmt.Errorf("start the fleet: %w", err)
	}
	f := &Fleet{Size: size, cluster: cluster, endBeats: func() {}}
	if err := f.register(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the fleet: %w", err), f.Close())
	}
	return f, nil
}

func (f *Fleet) register(ctx context.Context) (err error) {
	if err := Each(ctx, f.MediaHandlers, f.introduceHandler); err != nil {
		return err
	}
	if f.controllers, err = serveControllers(f.Size); err != nil {
		return err
	}
	if err := Each(ctx, f.Controllers, func(ctx context.Context, i int) error {
		return f.introduce(ctx, f.controllers.all[i])
	}); err != nil {
		return err
	}
	beats, end := context.WithCancel(context.WithoutCancel(ctx))
	f.endBeats = end
	for i, c := range f.controllers.all {
		after := heartbeatInterval * time.Duration(i) / time.Duration(f.Controllers)
		f.beats.Go(func() { f.beat(beats, c, after) })
	}
	return nil
}

// introduceHandler registers a media handler, and reports for it once.
func (f *Fleet) introduceHandler(ctx context.Context, i int) error {
	mh := f.MediaHandler(i)
	err := f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := darktowerv1.NewMediaHandlerRegistryServiceClient(conn).RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
			HandlerId: mh.ID, Region: mh.Region, Zone: mh.Zone, MaxStreams: maxStreams,
			WebtransportEndpoint: "https://" + mh.ID + ".bench.invalid:4433",
			GrpcEndpoint:         "http://" + mh.ID + ".bench.invalid:50052",
		})
		return err
	})
	if err == nil {
		err = f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
			_, err := darktowerv1.NewMediaHandlerRegistryServiceClient(conn).SendLoadReport(ctx,
				&darktowerv1.SendLoadReportRequest{HandlerId: mh.ID, Health: darktowerv1.HealthStatus_HEALTHY})
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("register %s: %w", mh.ID, err)
	}
	return nil
}

// MissedHeartbeats is how many heartbeats of controllers failed so far, at every replica.
func (f *Fleet) MissedHeartbeats() int64 { return f.missed.Load() }

// Hosted is how many meetings all controllers host by their own word.
func (f *Fleet) Hosted() int {
	n := 0
	for _, c := range f.controllers.all {
		n += c.meetings()
	}
	return n
}

// Close ends heartbeats and controllers.
func (f *Fleet) Close() error {
	f.endBeats()
	f.beats.Wait()
	if f.controllers != nil {
		f.controllers.stop()
	}
	return f.cluster.Close()
}

// Each calls do for 0 to n-1, many at once, until one fails or the context ends.
func Each(ctx context.Context, n int, do func(context.Context, int) error) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(registering)
	for i := 0; i < n && groupCtx.Err() == nil; i++ {
		group.Go(func() error { return do(groupCtx, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}
