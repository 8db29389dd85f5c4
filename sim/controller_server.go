package sim

import (
	"context"
	"crypto/subtle"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// controllerService answers for one life of a meeting controller's server.
type controllerService struct {
	darktowerv1.UnimplementedMeetingControllerServiceServer
	controller *MeetingController
	stopped    <-chan struct{}
}

// AssignMeetingWithMh takes a meeting, or does what the script says.
func (s *controllerService) AssignMeetingWithMh(ctx context.Context, request *darktowerv1.AssignMeetingWithMhRequest) (*darktowerv1.AssignMeetingWithMhResponse, error) {
	if request.GetMeetingId() == "" || request.GetFencingToken() == 0 {
		return nil, status.Error(codes.InvalidArgument, "meeting_id and fencing_token are required")
	}
	step := s.controller.nextStep(request)
	event := assignEvent(ctx, request)
	if step.delay > 0 {
		s.delay(step.delay)
	}
	switch step.act {
	case actReject:
		event.Outcome, event.Detail = OutcomeRejected, step.reason.String()
		s.controller.record(event)
		return &darktowerv1.AssignMeetingWithMhResponse{RejectionReason: step.reason}, nil
	case actFail:
		event.Outcome, event.Detail = OutcomeFailed, step.code.String()
		s.controller.record(event)
		return nil, status.Error(step.code, "as scripted")
	case actHang:
		event.Outcome = OutcomeHung
		s.controller.record(event)
		return nil, s.hang(ctx)
	case actAcceptThenDie:
		event.Detail = "died before answering"
		s.controller.take(event)
		go s.controller.Stop()
		return nil, s.hang(ctx)
	case actAcceptThenHang:
		event.Detail = "answer withheld"
		s.controller.take(event)
		return nil, s.hang(ctx)
	}
	return s.controller.take(event), nil
}

// ReleaseMeeting drops a meeting at or below the token named.
func (s *controllerService) ReleaseMeeting(ctx context.Context, request *darktowerv1.ReleaseMeetingRequest) (*darktowerv1.ReleaseMeetingResponse, error) {
	if request.GetMeetingId() == "" || request.GetFencingToken() == 0 {
		return nil, status.Error(codes.InvalidArgument, "meeting_id and fencing_token are required")
	}
	outcome := s.controller.drop(Event{
		Kind: EventRelease, Legacy: calledAsLegacy(ctx), Detail: request.GetReason(),
		Meeting: request.GetMeetingId(), Region: request.GetRegion(), Token: request.GetFencingToken(),
	})
	return &darktowerv1.ReleaseMeetingResponse{Released: outcome == OutcomeReleased}, nil
}

// hang waits until the caller gives up or this life of the server ends.
func (s *controllerService) hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-s.stopped:
		return status.Error(codes.Unavailable, "meeting controller stopped")
	}
}

func (s *controllerService) delay(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.stopped:
	}
}

func (m *MeetingController) nextStep(request *darktowerv1.AssignMeetingWithMhRequest) Step {
	m.mu.Lock()
	script := m.script
	m.mu.Unlock()
	if script == nil {
		return Accept()
	}
	return script(request)
}

// take decides on a notification by the rules and journals it.
func (m *MeetingController) take(event Event) *darktowerv1.AssignMeetingWithMhResponse {
	key := Key{Meeting: event.Meeting, Region: event.Region}
	m.mu.Lock()
	outcome, reason := m.hosting.take(key, event.Token, event.MHs, m.objection(key))
	m.mu.Unlock()
	event.Outcome = outcome
	if outcome == OutcomeRejected {
		event.Detail = reason.String()
	}
	m.record(event)
	return &darktowerv1.AssignMeetingWithMhResponse{
		Accepted:        outcome == OutcomeAccepted || outcome == OutcomeRepeated,
		RejectionReason: reason,
	}
}

// drop gives a meeting up as event names it and journals it.
func (m *MeetingController) drop(event Event) Outcome {
	m.mu.Lock()
	event.Outcome = m.hosting.drop(Key{Meeting: event.Meeting, Region: event.Region}, event.Token)
	m.mu.Unlock()
	m.record(event)
	return event.Outcome
}

func assignEvent(ctx context.Context, request *darktowerv1.AssignMeetingWithMhRequest) Event {
	return Event{
		Kind: EventAssign, Legacy: calledAsLegacy(ctx),
		Meeting: request.GetMeetingId(), Region: request.GetRegion(), Token: request.GetFencingToken(),
		MHs: mhIDs(request.GetMhAssignments()), GC: request.GetRequestingGcId(),
	}
}

func mhIDs(assignments []*darktowerv1.MhAssignment) []string {
	ids := make([]string, 0, len(assignments))
	for _, assignment := range assignments {
		ids = append(ids, assignment.GetMhId())
	}
	return ids
}

// calledAsLegacy tells under which package name a call came in.
func calledAsLegacy(ctx context.Context) bool {
	method, _ := grpc.Method(ctx)
	return !strings.HasPrefix(method, "/"+currentPackage+".")
}

// authenticate wants the configured bearer token with every call.
func (m *MeetingController) authenticate(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if m.cfg.BearerToken != "" {
		want := []byte("Bearer " + m.cfg.BearerToken)
		given := metadata.ValueFromIncomingContext(ctx, "authorization")
		if len(given) != 1 || subtle.ConstantTimeCompare([]byte(given[0]), want) != 1 {
			return nil, status.Error(codes.Unauthenticated, "missing or wrong bearer token")
		}
	}
	return next(ctx, request)
}
