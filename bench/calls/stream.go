package calls

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/measure"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// reports is a stream of load reports. Call n has the sequence number n+1.
type reports struct {
	stream conclavev1.RegistryService_ReportLoadClient
	id     func(call int) string
	// What is sent is made of the same records again and again: a load generator that feeds its
	// garbage collector takes that time from the cluster beside it.
	request *conclavev1.ReportLoadRequest
	records []*conclavev1.LoadReport
}

// OpenReports opens a stream of load reports; id names the media handler of a call. It lives until
// the context ends.
func OpenReports(ctx context.Context, conn grpc.ClientConnInterface, id func(call int) string) (measure.Pipe, error) {
	stream, err := conclavev1.NewRegistryServiceClient(conn).ReportLoad(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a stream of reports: %w", err)
	}
	return &reports{stream: stream, id: id, request: new(conclavev1.ReportLoadRequest)}, nil
}

// Send implements measure.Pipe.
func (r *reports) Send(first, count int) error {
	for len(r.records) < count {
		r.records = append(r.records, &conclavev1.LoadReport{Health: darktowerv1.HealthStatus_HEALTHY})
	}
	r.request.Reports = r.records[:count]
	for i, record := range r.request.Reports {
		seq := first + i
		record.Sequence, record.HandlerId, record.CurrentStreams = uint64(seq)+1, r.id(seq), uint32(seq%1000)
		record.CpuUsagePercent, record.MemoryUsagePercent, record.BandwidthUsagePercent = float32(seq%50), float32(seq%40), float32(seq%30)
	}
	return r.stream.Send(r.request)
}

// Receive implements measure.Pipe.
func (r *reports) Receive() (decided int, refused []measure.Refusal, err error) {
	answer, err := r.stream.Recv()
	if err != nil {
		return 0, nil, err
	}
	for _, f := range answer.Refused {
		refused = append(refused, measure.Refusal{Call: int(f.Sequence) - 1, Reason: f.Reason})
	}
	return int(answer.AcknowledgedThrough), refused, nil
}

// CloseSend implements measure.Pipe.
func (r *reports) CloseSend() error { return r.stream.CloseSend() }
