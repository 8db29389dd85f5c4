package calls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/conclave-rtc/conclave/bench/measure"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// registry acknowledges every message once, and refuses the reports of one handler.
type registry struct {
	conclavev1.UnimplementedRegistryServiceServer
	mu   sync.Mutex
	seen []string
	bad  []string
}

func (r *registry) ReportLoad(stream conclavev1.RegistryService_ReportLoadServer) error {
	last := uint64(0)
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer := new(conclavev1.ReportLoadResponse)
		r.mu.Lock()
		for _, report := range req.Reports {
			if report.Sequence != last+1 {
				r.bad = append(r.bad, fmt.Sprintf("%d after %d", report.Sequence, last))
			}
			last = report.Sequence
			r.seen = append(r.seen, report.HandlerId)
			if report.HandlerId == "stranger" {
				answer.Refused = append(answer.Refused, &conclavev1.RefusedReport{Sequence: report.Sequence, Reason: "NOT_REGISTERED"})
			}
		}
		r.mu.Unlock()
		answer.AcknowledgedThrough = last
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func TestStreamCountsWhatIsAcknowledged(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, service := grpc.NewServer(), new(registry)
	conclavev1.RegisterRegistryServiceServer(server, service)
	go server.Serve(l)
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	plan := measure.Pipes{Plan: measure.Plan{Callers: 1, Time: 100 * time.Millisecond, CallTimeout: Timeout, Reason: Reason}, Window: 10, Batch: 4}
	sample, err := measure.RunPipes(t.Context(), plan, func(ctx context.Context, _ int) (measure.Pipe, error) {
		return OpenReports(ctx, conn, func(call int) string {
			if call%2 == 1 {
				return "stranger"
			}
			return fmt.Sprintf("mh-%d", call)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	service.mu.Lock()
	defer service.mu.Unlock()
	if len(service.bad) > 0 {
		t.Errorf("numbers do not rise one by one: %v", service.bad)
	}
	seen := int64(len(service.seen))
	if seen == 0 || sample.Operations != (seen+1)/2 || sample.Failures["NOT_REGISTERED"] != seen/2 || sample.Failed() != seen/2 {
		t.Errorf("of %d reports %d were counted, failures %v; want half of them each", seen, sample.Operations, sample.Failures)
	}
	if service.seen[0] != "mh-0" {
		t.Errorf("the first is of %s", service.seen[0])
	}
}
