package replica

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// What tests call a replica through.

func (m *member) gateway() conclavev1.AssignmentServiceClient {
	return conclavev1.NewAssignmentServiceClient(m.conn)
}

func (m *member) registryOf() conclavev1.RegistryServiceClient {
	return conclavev1.NewRegistryServiceClient(m.conn)
}

func (m *member) handlers() darktowerv1.MediaHandlerRegistryServiceClient {
	return darktowerv1.NewMediaHandlerRegistryServiceClient(m.conn)
}

func (m *member) controllers() darktowerv1.GlobalControllerServiceClient {
	return darktowerv1.NewGlobalControllerServiceClient(m.conn)
}

func (m *member) status(t *testing.T) *conclavev1.GetStatusResponse {
	t.Helper()
	s, err := conclavev1.NewClusterServiceClient(m.conn).GetStatus(t.Context(), &conclavev1.GetStatusRequest{})
	if err != nil {
		t.Fatalf("status of %s: %v", m.id(), err)
	}
	return s
}

// mh is a media handler that a test reports for.
type mh struct {
	id, region, zone string
	max, used        uint32
	health           darktowerv1.HealthStatus // healthy when not set
	bandwidth        float32
}

// addMH registers a media handler and reports for it.
func (c *testCluster) addMH(t *testing.T, h mh) mh {
	t.Helper()
	h.register(t, c.up()[0])
	h.report(t, c.up()[0])
	return h
}

func (h mh) registration() *darktowerv1.RegisterMHRequest {
	return &darktowerv1.RegisterMHRequest{
		HandlerId: h.id, Region: h.region, Zone: h.zone, MaxStreams: max(h.max, 1),
		WebtransportEndpoint: "https://" + h.id + ".test.invalid:4433", GrpcEndpoint: "http://" + h.id + ".test.invalid:50053",
	}
}

func (h mh) register(t *testing.T, at *member) {
	t.Helper()
	answer, err := at.handlers().RegisterMH(t.Context(), h.registration())
	if err != nil || !answer.Accepted {
		t.Fatalf("registering %s: %v, %v", h.id, answer, err)
	}
}

func (h mh) report(t *testing.T, at *member) {
	t.Helper()
	if h.health == darktowerv1.HealthStatus_PENDING {
		h.health = darktowerv1.HealthStatus_HEALTHY
	}
	answer, err := at.handlers().SendLoadReport(t.Context(), &darktowerv1.SendLoadReportRequest{
		HandlerId: h.id, CurrentStreams: h.used, Health: h.health, BandwidthUsagePercent: h.bandwidth,
	})
	if err != nil || !answer.Acknowledged {
		t.Fatalf("reporting for %s: %v, %v", h.id, answer, err)
	}
}

// addMC starts a simulated meeting controller, registers it and sends its first heartbeat.
func (c *testCluster) addMC(t *testing.T, id, region string, changes ...func(*sim.MeetingControllerConfig)) *sim.MeetingController {
	t.Helper()
	config := sim.MeetingControllerConfig{ID: id, Region: region}
	for _, change := range changes {
		change(&config)
	}
	mc, err := sim.NewMeetingController(c.sim, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mc.Stop)
	heartbeat(t, mc)
	return mc
}

// heartbeat sends a comprehensive heartbeat, and acts on its answer.
func heartbeat(t *testing.T, mc *sim.MeetingController) {
	t.Helper()
	if err := mc.ComprehensiveHeartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func scripted(script sim.Script) func(*sim.MeetingControllerConfig) {
	return func(c *sim.MeetingControllerConfig) { c.Script = script }
}

// addRegion gives a region two media handlers and one meeting controller, which is returned.
func (c *testCluster) addRegion(t *testing.T, region string) *sim.MeetingController {
	t.Helper()
	c.addMH(t, mh{id: region + "-mh-1", region: region, zone: "a", max: 1000})
	c.addMH(t, mh{id: region + "-mh-2", region: region, zone: "b", max: 1000})
	return c.addMC(t, region+"-mc", region)
}

// join joins a meeting, which must work.
func (m *member) join(t *testing.T, region, meeting string) *conclavev1.AssignMeetingResponse {
	t.Helper()
	answer, err := m.tryJoin(t.Context(), region, meeting)
	if err != nil {
		t.Fatalf("joining %s/%s at %s: %v", region, meeting, m.id(), err)
	}
	return answer
}

func (m *member) tryJoin(ctx context.Context, region, meeting string) (*conclavev1.AssignMeetingResponse, error) {
	return m.gateway().AssignMeeting(ctx, &conclavev1.AssignMeetingRequest{MeetingId: meeting, Region: region})
}

// live is the live assignment of a meeting, nil when there is none.
func (m *member) live(t *testing.T, region, meeting string) *conclavev1.Assignment {
	t.Helper()
	answer, err := m.gateway().GetAssignment(t.Context(), &conclavev1.GetAssignmentRequest{MeetingId: meeting, Region: region})
	if status.Code(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		t.Fatalf("reading %s/%s at %s: %v", region, meeting, m.id(), err)
	}
	return answer.Assignment
}

func (m *member) end(t *testing.T, region, meeting string, token uint64) {
	t.Helper()
	answer, err := m.gateway().EndMeeting(t.Context(), &conclavev1.EndMeetingRequest{MeetingId: meeting, Region: region, FencingToken: token})
	if err != nil || !answer.Ended {
		t.Fatalf("ending %s/%s at %s: %v, %v", region, meeting, m.id(), answer, err)
	}
}

func (m *member) handler(t *testing.T, id string) *conclavev1.MediaHandler {
	t.Helper()
	answer, err := m.registryOf().GetMediaHandler(t.Context(), &conclavev1.GetMediaHandlerRequest{HandlerId: id})
	if err != nil {
		t.Fatalf("reading %s at %s: %v", id, m.id(), err)
	}
	return answer.MediaHandler
}

func (m *member) controller(t *testing.T, id string) *conclavev1.MeetingController {
	t.Helper()
	answer, err := m.registryOf().GetMeetingController(t.Context(), &conclavev1.GetMeetingControllerRequest{Id: id})
	if err != nil {
		t.Fatalf("reading %s at %s: %v", id, m.id(), err)
	}
	return answer.MeetingController
}

func handlerIDs(a *conclavev1.Assignment) []string {
	var ids []string
	for _, h := range a.MhAssignments {
		ids = append(ids, h.MhId)
	}
	return ids
}

// sameAssignment says whether two answers name the same controller, handlers and token.
func sameAssignment(a, b *conclavev1.Assignment) bool {
	return a.FencingToken == b.FencingToken && a.McId == b.McId && slices.Equal(handlerIDs(a), handlerIDs(b))
}

// hosts says whether a controller hosts exactly what an assignment says.
func hosts(mc *sim.MeetingController, a *conclavev1.Assignment) bool {
	held, ok := mc.Hosted()[sim.Key{Meeting: a.MeetingId, Region: a.Region}]
	return ok && mc.ID() == a.McId && held.Token == a.FencingToken && slices.Equal(held.MHs, handlerIDs(a))
}

// notHosting waits until a controller has dropped a meeting.
func notHosting(t *testing.T, mc *sim.MeetingController, region, meeting string) {
	t.Helper()
	eventually(t, mc.ID()+" has dropped "+meeting, func() error {
		if held, ok := mc.Hosted()[sim.Key{Meeting: meeting, Region: region}]; ok {
			return fmt.Errorf("it hosts it with token %d", held.Token)
		}
		return nil
	})
}

// eventsOf are a controller's events of a kind that are about a meeting.
func eventsOf(mc *sim.MeetingController, kind sim.EventKind, meeting string) []sim.Event {
	return slices.DeleteFunc(mc.Events(), func(e sim.Event) bool { return e.Kind != kind || e.Meeting != meeting })
}

// refusal is what an error must be.
type refusal struct {
	code   codes.Code
	reason string
	retry  bool
}

var (
	invalidField         = refusal{codes.InvalidArgument, "INVALID_FIELD", false}
	notRegistered        = refusal{codes.NotFound, "NOT_REGISTERED", false}
	noAssignment         = refusal{codes.NotFound, "NO_ASSIGNMENT", false}
	noControllers        = refusal{codes.Unavailable, "NO_MEETING_CONTROLLERS", true}
	noHandlers           = refusal{codes.Unavailable, "NO_MEDIA_HANDLERS", true}
	controllersFull      = refusal{codes.Unavailable, "CONTROLLERS_AT_CAPACITY", true}
	controllersDraining  = refusal{codes.Unavailable, "CONTROLLERS_DRAINING", true}
	controllersUnhealthy = refusal{codes.Unavailable, "CONTROLLERS_UNHEALTHY", true}
	controllersUnreached = refusal{codes.Unavailable, "CONTROLLERS_UNREACHABLE", true}
	noLeader             = refusal{codes.Unavailable, "NO_LEADER", true}
	fenced               = refusal{codes.FailedPrecondition, "FENCED", false}
	overloaded           = refusal{codes.ResourceExhausted, "OVERLOADED", true}
)

// check says how an error differs from what it must be: code, domain, reason and retry delay.
func (want refusal) check(err error) error {
	st := status.Convert(err)
	var info errdetails.ErrorInfo
	var retry *errdetails.RetryInfo
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			info.Domain, info.Reason = d.Domain, d.Reason
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	delay := retry.GetRetryDelay().AsDuration()
	switch {
	case st.Code() != want.code || info.Reason != want.reason || info.Domain != "conclave":
		return fmt.Errorf("got %v %s/%s (%s), want %v %s", st.Code(), info.Domain, info.Reason, st.Message(), want.code, want.reason)
	case (retry != nil) != want.retry, want.retry && (delay <= 0 || delay > time.Minute):
		return fmt.Errorf("%s: got RetryInfo %v, want one: %v", want.reason, retry, want.retry)
	}
	return nil
}

func (want refusal) must(t *testing.T, err error) {
	t.Helper()
	if bad := want.check(err); bad != nil {
		t.Error(bad)
	}
}
