package grpcsvc

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/tap"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// gate bounds the calls of one kind that clients and nodes have under way at this replica. What comes
// on top is refused before anything is done for it: it would only make all of them wait. By Little's
// law the bound is also one of the time that the accepted ones take. What another replica has let in
// and passes on is not counted again: refused here, its way would have been in vain.
type gate struct {
	limit    int64
	underWay atomic.Int64
}

// enter says whether there was room; who was let in must leave.
func (g *gate) enter() bool {
	if g.underWay.Add(1) > g.limit {
		g.underWay.Add(-1)
		return false
	}
	return true
}

func (g *gate) leave() { g.underWay.Add(-1) }

func (g *gate) full() bool { return g.underWay.Load() >= g.limit }

// turnAway refuses a call by its header, before anything is read or started for it. Whoever comes to
// a full replica in great numbers would else take the time of those who are in, and of the heartbeats
// that keep the leader in office.
func (s *Server) turnAway(ctx context.Context, call *tap.Info) (context.Context, error) {
	gate := s.gates[call.FullMethodName]
	if gate == nil || !gate.full() || len(call.Header.Get(headerForwarded)) > 0 {
		return ctx, nil
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) > soon {
		return ctx, nil // admit refuses it
	}
	return ctx, s.overloaded(call.FullMethodName)
}

// through lets a call through its gate, if there is room.
func (s *Server) through(ctx context.Context, method string, call func() (any, error)) (any, error) {
	gate := s.gates[method]
	if gate == nil || forwarded(ctx) {
		return call()
	}
	if !gate.enter() {
		return nil, s.overloaded(method)
	}
	defer gate.leave()
	return call()
}

func (s *Server) overloaded(method string) error {
	s.metrics.refuse(bareName(method))
	return errOverloaded
}

// bareName is a method without its service.
func bareName(method string) string { return method[strings.LastIndexByte(method, '/')+1:] }

// The bounds, for each replica. Each kind has its own: a fleet that registers anew does not keep out the
// heartbeats that controllers' meetings hang on, nor do joins that wait for controllers keep out the
// ends that make room.
const (
	maxReporting   = 1024
	maxRegistering = 512
	maxBeating     = 512
	maxJoining     = 512 // twice as many, on two cores, and overload makes heartbeats late
	maxEnding      = 512
	maxReading     = 1024
)

// soon is how far off the deadline of a call may be that is refused by its header: gRPC keeps what it
// made for such a call until then.
const soon = 15 * time.Second

// newGates returns the gate of each method that has one.
func newGates() map[string]*gate {
	gates := make(map[string]*gate)
	bound := func(limit int64, methods ...string) {
		g := &gate{limit: limit}
		for _, method := range methods {
			gates[method] = g
			if older, ok := olderName(method); ok {
				gates[older] = g
			}
		}
	}
	bound(maxReporting, darktowerv1.MediaHandlerRegistryService_SendLoadReport_FullMethodName)
	bound(maxRegistering,
		darktowerv1.MediaHandlerRegistryService_RegisterMH_FullMethodName,
		darktowerv1.GlobalControllerService_RegisterMC_FullMethodName)
	bound(maxBeating,
		darktowerv1.GlobalControllerService_FastHeartbeat_FullMethodName,
		darktowerv1.GlobalControllerService_ComprehensiveHeartbeat_FullMethodName)
	bound(maxJoining, conclavev1.AssignmentService_AssignMeeting_FullMethodName)
	bound(maxEnding,
		darktowerv1.GlobalControllerService_NotifyMeetingEnded_FullMethodName,
		conclavev1.AssignmentService_EndMeeting_FullMethodName)
	bound(maxReading,
		conclavev1.AssignmentService_GetAssignment_FullMethodName,
		conclavev1.AssignmentService_ListAssignments_FullMethodName,
		conclavev1.RegistryService_GetMediaHandler_FullMethodName,
		conclavev1.RegistryService_ListMediaHandlers_FullMethodName,
		conclavev1.RegistryService_GetMeetingController_FullMethodName,
		conclavev1.RegistryService_ListMeetingControllers_FullMethodName,
		conclavev1.ClusterService_GetStatus_FullMethodName)
	return gates
}
