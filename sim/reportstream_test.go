package sim

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// fickleReplica takes streams of reports and lets each one go after a few messages, with some
// taken and not acknowledged. It refuses every tenth report.
type fickleReplica struct {
	conclavev1.UnimplementedRegistryServiceServer

	mu      sync.Mutex
	session uint64
	taken   map[uint64]string // by sequence
	again   int               // reports that were taken before
	t       *testing.T
}

func (f *fickleReplica) ReportLoad(stream grpc.BidiStreamingServer[conclavev1.ReportLoadRequest, conclavev1.ReportLoadResponse]) error {
	before := uint64(0)
	for message := 1; ; message++ {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		answer := &conclavev1.ReportLoadResponse{}
		for _, report := range request.GetReports() {
			if report.GetSequence() <= before {
				f.t.Errorf("%d follows %d on one stream", report.GetSequence(), before)
			}
			before = report.GetSequence()
			answer.AcknowledgedThrough = before
			if before%10 == 0 {
				answer.Refused = append(answer.Refused, &conclavev1.RefusedReport{Sequence: before, Reason: "NOT_REGISTERED"})
			}
			f.take(request.GetSession(), report)
		}
		if message == 4 {
			return status.Error(codes.Unavailable, "gone")
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (f *fickleReplica) take(session uint64, report *conclavev1.LoadReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == 0 {
		f.session = session
	}
	if session == 0 || session != f.session {
		f.t.Errorf("session %d after %d", session, f.session)
	}
	if id, ok := f.taken[report.GetSequence()]; ok {
		f.again++
		if id != report.GetHandlerId() {
			f.t.Errorf("%d was for %s and is for %s", report.GetSequence(), id, report.GetHandlerId())
		}
	}
	f.taken[report.GetSequence()] = report.GetHandlerId()
}

// A client keeps its session and its numbers over all streams, sends again what was not
// acknowledged, in order, and stops at its window.
func TestReportStreamGoesOn(t *testing.T) {
	replica := &fickleReplica{t: t, taken: make(map[uint64]string)}
	server := grpc.NewServer()
	conclavev1.RegisterRegistryServiceServer(server, replica)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	cluster, err := Dial(listener.Addr().String()+","+listener.Addr().String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	refused := 0
	stream := NewReportStream(cluster, ReportStreamConfig{Window: 50, Batch: 40,
		OnRefused: func(report *conclavev1.LoadReport, why *conclavev1.RefusedReport) {
			refused++
			if report.GetSequence() != why.GetSequence() {
				t.Errorf("%v is refused for %v", report, why)
			}
		}})

	const all = 1000
	for range 50 { // not running yet: only the window's worth is taken
		if err := stream.Report(t.Context(), &conclavev1.LoadReport{HandlerId: "mh"}); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stream.Report(ended, &conclavev1.LoadReport{HandlerId: "mh"}); err == nil {
		t.Error("a report beyond the window was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- stream.Run(ctx) }()
	for range all - 50 {
		if err := stream.Report(t.Context(), &conclavev1.LoadReport{HandlerId: "mh"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	counts := stream.Counts()
	if counts.Reported != all || counts.Refused != all/10 || counts.Acknowledged != all-all/10 || refused != all/10 {
		t.Errorf("%+v and %d told, want %d reports and every tenth refused", counts, refused, all)
	}
	if len(replica.taken) != all || replica.again == 0 || counts.Streams < 2 || counts.Resent < uint64(replica.again) {
		t.Errorf("the replica took %d, %d of them again, from %+v", len(replica.taken), replica.again, counts)
	}
}

// What every replica would say ends the client.
func TestReportStreamEndsForGood(t *testing.T) {
	server := grpc.NewServer()
	conclavev1.RegisterRegistryServiceServer(server, conclavev1.UnimplementedRegistryServiceServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	cluster, err := Dial(listener.Addr().String(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	stream := NewReportStream(cluster, ReportStreamConfig{})
	if err := stream.Run(t.Context()); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v, want UNIMPLEMENTED", err)
	}
}
