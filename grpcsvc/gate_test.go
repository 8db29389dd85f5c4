package grpcsvc

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// What is too much is refused at once, of its own kind alone, and there is room again when a call ends.
func TestTooManyCallsAreRefused(t *testing.T) {
	s := &Server{gates: newGates(), metrics: newMetrics(prometheus.NewRegistry(), nil)}
	report := &grpc.UnaryServerInfo{FullMethod: "/dark_tower.internal.v1.MediaHandlerRegistryService/SendLoadReport"}
	older := &grpc.UnaryServerInfo{FullMethod: "/dark_tower.internal.MediaHandlerRegistryService/SendLoadReport"}
	valid := &darktowerv1.SendLoadReportRequest{HandlerId: "mh-1"}
	release := make(chan struct{})
	entered, ended := make(chan struct{}), make(chan error)
	for range maxReporting {
		go func() {
			_, err := s.admit(t.Context(), valid, report, func(context.Context, any) (any, error) {
				entered <- struct{}{}
				<-release
				return nil, nil
			})
			ended <- err
		}()
	}
	for range maxReporting {
		<-entered
	}
	answer := func(context.Context, any) (any, error) { return "answered", nil }
	for _, info := range []*grpc.UnaryServerInfo{report, older} {
		_, err := s.admit(t.Context(), valid, info, answer)
		if status.Code(err) != codes.ResourceExhausted || ReasonOf(err) != ReasonOverloaded {
			t.Errorf("%s: %v, want RESOURCE_EXHAUSTED, %s", info.FullMethod, err, ReasonOverloaded)
		}
		if _, err := s.turnAway(t.Context(), &tap.Info{FullMethodName: info.FullMethod}); ReasonOf(err) != ReasonOverloaded {
			t.Errorf("%s: %v by its header, want %s", info.FullMethod, err, ReasonOverloaded)
		}
	}
	join := &grpc.UnaryServerInfo{FullMethod: conclavev1.AssignmentService_AssignMeeting_FullMethodName}
	if _, err := s.admit(t.Context(), &conclavev1.AssignMeetingRequest{MeetingId: "m"}, join, answer); err != nil {
		t.Errorf("a join among too many reports: %v", err)
	}
	if _, err := s.turnAway(t.Context(), &tap.Info{FullMethodName: join.FullMethod}); err != nil {
		t.Errorf("a join among too many reports: %v by its header", err)
	}
	far, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := s.turnAway(far, &tap.Info{FullMethodName: report.FullMethod}); err != nil {
		t.Errorf("%v by its header: gRPC would keep what it made for the call for an hour", err)
	}
	passedOn := metadata.Pairs(headerForwarded, "gc-2")
	if _, err := s.turnAway(t.Context(), &tap.Info{FullMethodName: report.FullMethod, Header: passedOn}); err != nil {
		t.Errorf("what another replica let in: %v by its header", err)
	}
	if _, err := s.admit(metadata.NewIncomingContext(t.Context(), passedOn), valid, report, answer); err != nil {
		t.Errorf("what another replica let in: %v", err)
	}
	close(release)
	for range maxReporting {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := s.admit(t.Context(), valid, report, answer); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

// A method without a gate would be the one that takes everything down.
func TestEveryCallOfClientsAndNodesHasAGate(t *testing.T) {
	gates := newGates()
	for _, desc := range []grpc.ServiceDesc{
		darktowerv1.MediaHandlerRegistryService_ServiceDesc, darktowerv1.GlobalControllerService_ServiceDesc,
		conclavev1.AssignmentService_ServiceDesc, conclavev1.RegistryService_ServiceDesc, conclavev1.ClusterService_ServiceDesc,
	} {
		for _, m := range desc.Methods {
			names := []string{desc.ServiceName}
			if after, ok := strings.CutPrefix(desc.ServiceName, packageV1); ok {
				names = append(names, packageV0+after)
			}
			for _, name := range names {
				if gates["/"+name+"/"+m.MethodName] == nil {
					t.Errorf("/%s/%s has none", name, m.MethodName)
				}
			}
		}
	}
}
