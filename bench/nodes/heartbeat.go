package nodes

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const (
	// heartbeatInterval is what the cluster asks for by default; one in comprehensiveEvery is a
	// comprehensive one.
	heartbeatInterval  = 10 * time.Second
	comprehensiveEvery = 3

	// maxMeetings: no controller runs out of room while a cluster is measured.
	maxMeetings = 1_000_000
)

// introduce registers a controller, with the first heartbeat, after which it can be chosen.
func (f *Fleet) introduce(ctx context.Context, c *controller) error {
	err := f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := darktowerv1.NewGlobalControllerServiceClient(conn).RegisterMC(ctx, &darktowerv1.RegisterMCRequest{
			Id: c.ID, Region: c.Region, Zone: c.Zone, GrpcEndpoint: c.endpoint,
			WebtransportEndpoint: "https://" + c.ID + ".bench.invalid",
			MaxMeetings:          maxMeetings, MaxParticipants: 10 * maxMeetings,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("register %s: %w", c.ID, err)
	}
	return f.fast(ctx, c)
}

// beat sends heartbeats until the context ends. Controllers begin at different times, so that
// their heartbeats are spread over the interval.
func (f *Fleet) beat(ctx context.Context, c *controller, after time.Duration) {
	wait := time.NewTimer(after)
	defer wait.Stop()
	for n := 1; ; n++ {
		select {
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		wait.Reset(heartbeatInterval)
		send := f.fast
		if n%comprehensiveEvery == 0 {
			send = f.comprehensive
		}
		err := send(ctx, c)
		if status.Code(err) == codes.NotFound {
			err = f.introduce(ctx, c)
		}
		if err != nil && ctx.Err() == nil {
			f.missed.Add(1)
		}
	}
}

func (f *Fleet) fast(ctx context.Context, c *controller) error {
	return f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		_, err := darktowerv1.NewGlobalControllerServiceClient(conn).FastHeartbeat(ctx, &darktowerv1.FastHeartbeatRequest{
			ControllerId: c.ID, Health: darktowerv1.HealthStatus_HEALTHY, Capacity: c.capacity(),
		})
		return err
	})
}

func (f *Fleet) comprehensive(ctx context.Context, c *controller) error {
	return f.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		resp, err := darktowerv1.NewGlobalControllerServiceClient(conn).ComprehensiveHeartbeat(ctx,
			&darktowerv1.ComprehensiveHeartbeatRequest{
				ControllerId: c.ID, Health: darktowerv1.HealthStatus_HEALTHY, Capacity: c.capacity(), Hosted: c.hosted(),
			})
		for _, m := range resp.GetRelease() {
			c.drop(meeting{m.MeetingId, m.Region}, m.FencingToken)
		}
		return err
	})
}

func (c *controller) capacity() *darktowerv1.ControllerCapacity {
	meetings := uint32(c.meetings())
	return &darktowerv1.ControllerCapacity{
		MaxMeetings: maxMeetings, CurrentMeetings: meetings,
		MaxParticipants: 10 * maxMeetings, CurrentParticipants: 4 * meetings,
	}
}
