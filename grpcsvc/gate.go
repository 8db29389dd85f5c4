package grpcsvc

import (
	"sync/atomic"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// gate bounds the calls of one kind that are under way at this replica. What comes on top is refused
// before anything is done for it: it would only make all of them wait. By Little's law the bound is
// also one of the time that the accepted ones take.
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

// The bounds. Each kind has its own, so that many load reports do not keep out the heartbeats that
// a controller's meetings hang on, nor either of them the joins.
const (
	maxReporting = 2048
	maxBeating   = 2048 // registrations, and heartbeats of controllers
	maxJoining   = 2048 // joins and ends: a controller may take seconds to answer
	maxReading   = 4096
)

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
	bound(maxBeating,
		darktowerv1.MediaHandlerRegistryService_RegisterMH_FullMethodName,
		darktowerv1.GlobalControllerService_RegisterMC_FullMethodName,
		darktowerv1.GlobalControllerService_FastHeartbeat_FullMethodName,
		darktowerv1.GlobalControllerService_ComprehensiveHeartbeat_FullMethodName)
	bound(maxJoining,
		darktowerv1.GlobalControllerService_NotifyMeetingEnded_FullMethodName,
		conclavev1.AssignmentService_AssignMeeting_FullMethodName,
		conclavev1.AssignmentService_EndMeeting_FullMethodName)
	bound(maxReading,
		conclavev1.AssignmentService_GetAssignment_FullMethodName,
		conclavev1.AssignmentService_ListAssignments_FullMethodName,
		conclavev1.RegistryService_GetMediaHandler_FullMethodName,
		conclavev1.RegistryService_ListMediaHandlers_FullMethodName,
		conclavev1.RegistryService_GetMeetingController_FullMethodName,
		conclavev1.RegistryService_ListMeetingControllers_FullMethodName)
	return gates
}
