package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// errStopped is returned by calls of a controller that is stopped: a dead process says nothing.
var errStopped = errors.New("meeting controller is stopped")

// Register registers it, as a process does that has just started.
func (m *MeetingController) Register(ctx context.Context) error {
	m.mu.Lock()
	life := m.server
	m.mu.Unlock()
	request := &darktowerv1.RegisterMCRequest{
		Id: m.cfg.ID, Region: m.cfg.Region, Zone: m.cfg.Zone,
		GrpcEndpoint: m.advertised(), WebtransportEndpoint: "https://" + m.cfg.ID + ".sim.invalid",
		MaxMeetings: m.cfg.MaxMeetings, MaxParticipants: m.cfg.MaxMeetings * m.cfg.ParticipantsPerMeeting,
	}
	var response darktowerv1.RegisterMCResponse
	sent, err := m.call(ctx, darktowerv1.GlobalControllerService_RegisterMC_FullMethodName,
		func() proto.Message { m.registrations.Add(1); return request }, &response)
	if err == nil && !response.GetAccepted() {
		err = status.Error(codes.FailedPrecondition, response.GetMessage())
	}
	m.recordCall(EventRegister, err)
	if err != nil {
		return fmt.Errorf("registering meeting controller %s: %w", m.cfg.ID, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Restarted meanwhile: that life has to register for itself.
	m.registered = m.server == life
	m.lastHeard = sent
	m.fast = time.Duration(response.GetFastHeartbeatIntervalMs()) * time.Millisecond
	m.full = time.Duration(response.GetComprehensiveHeartbeatIntervalMs()) * time.Millisecond
	return nil
}

// FastHeartbeat reports capacity and health. When the cluster does not know the controller it
// registers again and repeats the heartbeat.
func (m *MeetingController) FastHeartbeat(ctx context.Context) error {
	return m.heartbeat(ctx, EventFast, func() error {
		var response darktowerv1.FastHeartbeatResponse
		sent, err := m.call(ctx, darktowerv1.GlobalControllerService_FastHeartbeat_FullMethodName,
			func() proto.Message { return m.fastRequest() }, &response)
		return m.settle(sent, response.GetAcknowledged(), err)
	})
}

// ComprehensiveHeartbeat also lists what it hosts, and drops what the answer names. When the
// cluster does not know the controller it registers again and repeats the heartbeat.
func (m *MeetingController) ComprehensiveHeartbeat(ctx context.Context) error {
	return m.heartbeat(ctx, EventComprehensive, func() error {
		var response darktowerv1.ComprehensiveHeartbeatResponse
		sent, err := m.call(ctx, darktowerv1.GlobalControllerService_ComprehensiveHeartbeat_FullMethodName,
			func() proto.Message { return m.comprehensiveRequest() }, &response)
		if err := m.settle(sent, response.GetAcknowledged(), err); err != nil {
			return err
		}
		for _, meeting := range response.GetRelease() {
			m.drop(Event{Kind: EventDrop, Meeting: meeting.GetMeetingId(), Region: meeting.GetRegion(), Token: meeting.GetFencingToken()})
		}
		return nil
	})
}

// EndMeeting ends a meeting that it hosts: it tells the cluster, with its token, and drops the
// meeting once the cluster has confirmed. The token is returned for the ledger, with any error.
func (m *MeetingController) EndMeeting(ctx context.Context, key Key) (token uint64, err error) {
	held, ok := m.Hosted()[key]
	if !ok {
		return 0, fmt.Errorf("ending %s: not hosted by %s", key, m.cfg.ID)
	}
	request := &darktowerv1.NotifyMeetingEndedRequest{MeetingId: key.Meeting, Region: key.Region, FencingToken: held.Token}
	var response darktowerv1.NotifyMeetingEndedResponse
	_, err = m.call(ctx, darktowerv1.GlobalControllerService_NotifyMeetingEnded_FullMethodName,
		func() proto.Message { return request }, &response)
	if err == nil && !response.GetAcknowledged() {
		err = status.Error(codes.FailedPrecondition, "end of the meeting not acknowledged")
	}
	event := Event{Kind: EventEnd, Outcome: OutcomeAcknowledged, Meeting: key.Meeting, Region: key.Region, Token: held.Token}
	if err != nil {
		event.Outcome, event.Detail = OutcomeFailed, err.Error()
		m.record(event)
		return held.Token, fmt.Errorf("ending %s: %w", key, err)
	}
	m.mu.Lock()
	m.hosting.drop(key, held.Token)
	m.mu.Unlock()
	m.record(event)
	return held.Token, nil
}

// heartbeat sends one, registering before it when that is due and again on NOT_FOUND.
func (m *MeetingController) heartbeat(ctx context.Context, kind EventKind, send func() error) error {
	for again := false; ; again = true {
		m.mu.Lock()
		registered := m.registered
		m.mu.Unlock()
		if !registered {
			if err := m.Register(ctx); err != nil {
				return err
			}
		}
		err := send()
		m.recordCall(kind, err)
		if status.Code(err) == codes.NotFound && !again {
			m.mu.Lock()
			m.registered = false
			m.mu.Unlock()
			continue
		}
		if err != nil {
			return fmt.Errorf("%s of %s: %w", kind, m.cfg.ID, err)
		}
		return nil
	}
}

// settle turns the answer to a heartbeat into an error, or records the contact.
func (m *MeetingController) settle(sent time.Time, acknowledged bool, err error) error {
	if err != nil {
		return err
	}
	if !acknowledged {
		return status.Error(codes.FailedPrecondition, "heartbeat not acknowledged")
	}
	m.contact.acknowledged(sent, m.cfg.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastHeard = sent
	return nil
}

// call builds the request anew for each attempt, so that a retry after a failover does not report
// the past, and returns when the attempt that succeeded was sent.
func (m *MeetingController) call(ctx context.Context, method string, request func() proto.Message, response proto.Message) (sent time.Time, err error) {
	if m.cluster == nil {
		return sent, errors.New("meeting controller has no cluster")
	}
	err = m.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		if m.Down() {
			return errStopped
		}
		sent = m.cfg.Now()
		return invoke(ctx, conn, method, m.cfg.Legacy, request(), response)
	})
	return sent, err
}

func (m *MeetingController) recordCall(kind EventKind, err error) {
	event := Event{Kind: kind, Outcome: OutcomeAcknowledged, Legacy: m.cfg.Legacy}
	if err != nil {
		event.Outcome, event.Detail = OutcomeFailed, err.Error()
	}
	m.record(event)
}

func (m *MeetingController) fastRequest() *darktowerv1.FastHeartbeatRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &darktowerv1.FastHeartbeatRequest{ControllerId: m.cfg.ID, Capacity: m.capacity(), Health: m.health}
}

func (m *MeetingController) comprehensiveRequest() *darktowerv1.ComprehensiveHeartbeatRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := &darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: m.cfg.ID, Capacity: m.capacity(), Health: m.health}
	for key, held := range m.hosting.hosted {
		request.Hosted = append(request.Hosted, &darktowerv1.HostedMeeting{
			MeetingId: key.Meeting, Region: key.Region, FencingToken: held.Token,
		})
	}
	request.CpuUsagePercent = 100 * float32(len(request.Hosted)) / float32(m.cfg.MaxMeetings)
	request.MemoryUsagePercent = request.CpuUsagePercent
	return request
}

// capacity is what it reports of its room. The caller holds mu.
func (m *MeetingController) capacity() *darktowerv1.ControllerCapacity {
	meetings := uint32(len(m.hosting.hosted))
	return &darktowerv1.ControllerCapacity{
		MaxMeetings: m.cfg.MaxMeetings, CurrentMeetings: meetings,
		MaxParticipants:     m.cfg.MaxMeetings * m.cfg.ParticipantsPerMeeting,
		CurrentParticipants: meetings * m.cfg.ParticipantsPerMeeting,
	}
}
