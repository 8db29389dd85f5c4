package main

import (
	"context"
	"strconv"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/fleet"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	"github.com/conclave-rtc/conclave/bench/measure"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// workload is one kind of call.
type workload struct {
	name string
	// call makes one call. Callers of one workload never have the same seq, and use all of them
	// from 0 about in order.
	call func(ctx context.Context, conn grpc.ClientConnInterface, run string, seq int) error
}

// echoWorkload goes to the echo server, not to the cluster.
const echoWorkload = "echo"

// workloads are measured in this order: the one that leaves live meetings behind comes last.
var workloads = []workload{
	{"report", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return calls.Report(ctx, conn, fleet.MediaHandlerID(seq%mediaHandlers), seq)
	}},
	{"assign-existing", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return calls.Assign(ctx, conn, existingMeetingID(seq%existingMeetings), fleet.Region, false)
	}},
	{"get-linearizable", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return calls.Get(ctx, conn, existingMeetingID(seq%existingMeetings), fleet.Region, conclavev1.Consistency_LINEARIZABLE)
	}},
	{"get-stale", func(ctx context.Context, conn grpc.ClientConnInterface, _ string, seq int) error {
		return calls.Get(ctx, conn, existingMeetingID(seq%existingMeetings), fleet.Region, conclavev1.Consistency_STALE)
	}},
	{"assign-new", func(ctx context.Context, conn grpc.ClientConnInterface, run string, seq int) error {
		return calls.Assign(ctx, conn, run+"-"+strconv.Itoa(seq), fleet.Region, true)
	}},
}

func workloadNames() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// caller makes the calls of one caller of a workload.
func (w workload) caller(to *grpcpool.Pool, run string, callers, caller int) measure.Caller {
	return func(ctx context.Context, n int) error {
		return w.call(ctx, to.Conn(callers, caller, n), run, caller+n*callers)
	}
}

// echoCaller sends the echo server what the cluster's load reports are.
func echoCaller(to *grpcpool.Pool, callers, caller int) measure.Caller {
	return func(ctx context.Context, n int) error {
		seq := caller + n*callers
		return calls.Report(ctx, to.Conn(callers, caller, n), fleet.MediaHandlerID(seq%mediaHandlers), seq)
	}
}
