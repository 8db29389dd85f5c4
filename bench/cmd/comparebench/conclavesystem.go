package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	"github.com/conclave-rtc/conclave/bench/measure"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// Of the stream of reports.
const (
	streamsPerReplica = 8
	streamWindow      = 512
	streamBatch       = 64
)

// conclaveSystem is Conclave as it is compared: its callers are spread over all replicas, and then
// all at the leader.
type conclaveSystem struct{ *conclave }

func startConclave(b *bencher, ctx context.Context, dir string) (system, error) {
	var flags []string
	if b.behind == behindNone {
		flags = []string{"--stale-after", time.Hour.String()}
	}
	c, err := b.runConclave(ctx, dir, flags...)
	if err != nil {
		return nil, err
	}
	if b.behind != behindNone {
		c.background = c.reportInBackground()
	}
	return conclaveSystem{c}, nil
}

func (s conclaveSystem) workloads() []workload {
	spread, leader := s.over(sysConclave, s.all), s.over(sysLeader, s.atLeader)
	streams := workload{system: sysConclave, name: wStream, measure: s.streams, callers: []int{streamsPerReplica * s.replicas}}
	// What leaves live meetings behind comes last.
	return []workload{spread[0], leader[0], streams, spread[1], leader[1], spread[2], leader[2], spread[3], leader[3]}
}

// over are the workloads with callers that are spread over the connections of a pool.
func (s conclaveSystem) over(name string, to *grpcpool.Pool) []workload {
	of := func(what string, call func(ctx context.Context, conn grpc.ClientConnInterface, run string, seq int) error) workload {
		return workload{system: name, name: what, measure: unaryCalls(func(ctx context.Context, callers, caller, n int, run string) error {
			return call(ctx, to.Conn(callers, caller, n), run, seq(callers, caller, n))
		})}
	}
	get := func(c conclavev1.Consistency) func(context.Context, grpc.ClientConnInterface, string, int) error {
		return func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
			i := seq % existingMeetings
			return calls.Get(ctx, conn, existingMeetingID(i), s.Region(i), c)
		}
	}
	return []workload{
		of(wReport, func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
			return calls.Report(ctx, conn, s.MediaHandler(seq%s.MediaHandlers).ID, seq)
		}),
		of(wGet, get(conclavev1.Consistency_LINEARIZABLE)),
		of(wStale, get(conclavev1.Consistency_STALE)),
		of(wAssign, func(ctx context.Context, conn grpc.ClientConnInterface, run string, seq int) error {
			return calls.Assign(ctx, conn, meetingID(run, seq), s.Region(seq), true)
		}),
	}
}

// streams measures reports over streams; a stream speaks for its own part of the fleet.
func (c *conclave) streams(ctx context.Context, p measure.Plan, _ string) (*measure.Sample, error) {
	return measure.RunPipes(ctx, measure.Pipes{Plan: p, Window: streamWindow, Batch: streamBatch},
		func(ctx context.Context, stream int) (measure.Pipe, error) {
			return c.openStream(ctx, p.Callers, stream)
		})
}

func (c *conclave) openStream(ctx context.Context, streams, stream int) (measure.Pipe, error) {
	own := (c.MediaHandlers - stream + streams - 1) / streams
	if own < 1 {
		return nil, fmt.Errorf("%d media handlers are too few for %d streams", c.MediaHandlers, streams)
	}
	all := c.all.Conns()
	return calls.OpenReports(ctx, all[stream%len(all)], func(call int) string {
		return c.MediaHandler(stream + call%own*streams).ID
	})
}
