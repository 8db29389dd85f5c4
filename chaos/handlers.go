package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const (
	reportInterval = 800 * time.Millisecond
	// mhCapacity is far above every Seq: a report's current_streams is its Seq, so that each can be
	// told apart in the log, and no handler is ever full.
	mhCapacity = 1 << 31
)

// handler is a media handler. Every report and registration is one call to one replica, never
// repeated, and recorded.
type handler struct {
	system *System
	id     string
	region string
	zone   string
	silent atomic.Bool // says nothing
	again  atomic.Bool // registers anew before the next report

	registered bool
	seq        uint32
	turn       int
}

func (h *handler) run(ctx context.Context, history *history) {
	h.turn = rand.IntN(len(h.system.cluster.Replicas()))
	for ctx.Err() == nil {
		wait := reportInterval/2 + rand.N(reportInterval)
		if !h.silent.Load() {
			if h.again.Swap(false) {
				h.registered = false
			}
			kind := KindReport
			if !h.registered {
				kind = KindRegister
			}
			switch call := h.call(ctx, history, kind); {
			case call.Outcome == Done && kind == KindRegister:
				h.registered, wait = true, 0
			case call.Reason == "NOT_REGISTERED":
				h.registered, wait = false, 0
			case call.Outcome != Done:
				h.turn++ // the next replica may answer
				wait = 50 * time.Millisecond
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

func (h *handler) call(ctx context.Context, history *history, kind Kind) *Call {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	h.seq++
	at := h.turn % len(h.system.cluster.Replicas())
	replica, conn := h.system.cluster.Replicas()[at].ID, h.system.fleetConns[at]
	call := &Call{Client: h.id, Replica: replica, Kind: kind, Node: h.id, Seq: h.seq, Life: h.system.life(replica), Sent: history.now()}
	api := darktowerv1.NewMediaHandlerRegistryServiceClient(conn)
	var err error
	if kind == KindRegister {
		_, err = api.RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
			HandlerId: h.id, Region: h.region, Zone: h.zone, MaxStreams: mhCapacity,
			WebtransportEndpoint: fmt.Sprintf("https://%s.r%d.invalid", h.id, h.seq), GrpcEndpoint: "grpc://" + h.id + ".invalid:50052",
		})
	} else {
		_, err = api.SendLoadReport(ctx, &darktowerv1.SendLoadReportRequest{
			HandlerId: h.id, CurrentStreams: h.seq, Health: darktowerv1.HealthStatus_HEALTHY, CpuUsagePercent: 10,
		})
	}
	call.Back = history.now()
	call.Outcome, call.Reason = outcomeOf(err)
	history.add(call)
	return call
}

// runHandlers runs all handlers until ctx ends.
func runHandlers(ctx context.Context, handlers []*handler, history *history) {
	var all sync.WaitGroup
	for _, h := range handlers {
		all.Go(func() { h.run(ctx, history) })
	}
	all.Wait()
}
