package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/localcluster"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// booksRegion keeps nodes that only report away from those that host meetings.
const booksRegion = "books"

// books registers nodes and reports rising loads for them through all replicas, and remembers
// what was acknowledged of each.
type books struct {
	prefix  string
	end     context.CancelFunc
	running sync.WaitGroup

	mu          sync.Mutex
	handlers    map[string]uint32 // acknowledged streams by id
	controllers map[string]uint32 // acknowledged participants by id
}

const (
	bookWriters    = 4
	reportsPerNode = 8
)

func startBooks(t *testing.T, cluster *sim.Cluster, prefix string) *books {
	t.Helper()
	b := &books{prefix: prefix, handlers: make(map[string]uint32), controllers: make(map[string]uint32)}
	ctx, cancel := context.WithCancel(context.Background())
	b.end = cancel
	for writer := range bookWriters {
		b.running.Go(func() { b.write(ctx, cluster, writer) })
	}
	t.Cleanup(b.stop)
	return b
}

func (b *books) stop() {
	b.end()
	b.running.Wait()
}

// write takes one node after another through its life, until the context ends. A call that was not
// acknowledged by then may have had its effect or not.
func (b *books) write(ctx context.Context, cluster *sim.Cluster, writer int) {
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for node := 0; ; node++ {
		id := fmt.Sprintf("%s-%d-%d", b.prefix, writer, node)
		for value := range uint32(reportsPerNode + 1) {
			for _, kind := range []func(context.Context, *sim.Cluster, string, uint32) error{b.handler, b.controller} {
				if err := kind(ctx, cluster, id, value); err != nil {
					return
				}
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// handler registers a media handler, or reports so many streams for it.
func (b *books) handler(ctx context.Context, cluster *sim.Cluster, id string, streams uint32) error {
	err := cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		client := darktowerv1.NewMediaHandlerRegistryServiceClient(conn)
		var err error
		if streams == 0 {
			_, err = client.RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
				HandlerId: id, Region: booksRegion, MaxStreams: 1000,
				GrpcEndpoint: "http://book.invalid:1", WebtransportEndpoint: "https://book.invalid",
			})
		} else {
			_, err = client.SendLoadReport(ctx, &darktowerv1.SendLoadReportRequest{
				HandlerId: id, CurrentStreams: streams, Health: darktowerv1.HealthStatus_HEALTHY,
			})
		}
		return err
	})
	return b.note(b.handlers, id, streams, err)
}

// controller registers a meeting controller, or reports so many participants for it.
func (b *books) controller(ctx context.Context, cluster *sim.Cluster, id string, participants uint32) error {
	err := cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		client := darktowerv1.NewGlobalControllerServiceClient(conn)
		var err error
		if participants == 0 {
			_, err = client.RegisterMC(ctx, &darktowerv1.RegisterMCRequest{
				Id: id, Region: booksRegion, MaxMeetings: 100, MaxParticipants: 1000,
				GrpcEndpoint: "http://book.invalid:1", WebtransportEndpoint: "https://book.invalid",
			})
		} else {
			_, err = client.FastHeartbeat(ctx, &darktowerv1.FastHeartbeatRequest{
				ControllerId: id, Health: darktowerv1.HealthStatus_HEALTHY,
				Capacity: &darktowerv1.ControllerCapacity{MaxMeetings: 100, MaxParticipants: 1000, CurrentParticipants: participants},
			})
		}
		return err
	})
	return b.note(b.controllers, id, participants, err)
}

func (b *books) note(book map[string]uint32, id string, value uint32, err error) error {
	if err != nil {
		return fmt.Errorf("write of %s: %w", id, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	book[id] = value
	return nil
}

// judge holds every replica to what was acknowledged. The writing must have stopped.
func (b *books) judge(t *testing.T, replicas []*localcluster.Replica) {
	t.Helper()
	if len(b.handlers) == 0 || len(b.controllers) == 0 {
		t.Error("no registration was acknowledged")
	}
	for _, r := range replicas {
		one, ctx := dial(t, r.GRPCAddr), patience(t, settlePatience)
		handlers, controllers := make(map[string]uint32), make(map[string]uint32)
		err := one.EachMediaHandler(ctx, conclavev1.Consistency_LINEARIZABLE, func(mh *conclavev1.MediaHandler) {
			handlers[mh.HandlerId] = mh.CurrentStreams
		})
		if err != nil {
			t.Fatal(err)
		}
		err = one.EachMeetingController(ctx, conclavev1.Consistency_LINEARIZABLE, func(mc *conclavev1.MeetingController) {
			controllers[mc.Id] = mc.Capacity.GetCurrentParticipants()
		})
		if err != nil {
			t.Fatal(err)
		}
		compareBooks(t, r.ID+": streams of media handler", b.handlers, handlers)
		compareBooks(t, r.ID+": participants of meeting controller", b.controllers, controllers)
	}
}

func compareBooks(t *testing.T, what string, acknowledged, listed map[string]uint32) {
	t.Helper()
	for id, want := range acknowledged {
		// The next report may have been on its way when the writing stopped.
		if got, ok := listed[id]; !ok {
			t.Errorf("%s %s: acknowledged, but not there", what, id)
		} else if got != want && got != want+1 {
			t.Errorf("%s %s: %d, acknowledged %d", what, id, got, want)
		}
	}
}
