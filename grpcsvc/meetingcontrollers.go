package grpcsvc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// meetingControllers is what meeting controllers call.
type meetingControllers struct {
	darktowerv1.UnimplementedGlobalControllerServiceServer
	*Server
}

// comprehensiveEvery is how many fast heartbeats make a comprehensive one.
const comprehensiveEvery = 3

// RegisterMC registers a meeting controller. It will be called under the package name that it
// has used here.
func (m meetingControllers) RegisterMC(ctx context.Context, req *darktowerv1.RegisterMCRequest) (*darktowerv1.RegisterMCResponse, error) {
	err := m.registerNode(ctx, &commandv1.RegisterNode{
		Kind:                 fsm.MeetingController,
		Id:                   req.Id,
		Region:               req.Region,
		Zone:                 req.Zone,
		GrpcEndpoint:         req.GrpcEndpoint,
		WebtransportEndpoint: req.WebtransportEndpoint,
		Capacity:             req.MaxMeetings,
		MaxParticipants:      req.MaxParticipants,
		Dialect:              dialectOf(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &darktowerv1.RegisterMCResponse{
		Accepted:                         true,
		Message:                          "registered",
		FastHeartbeatIntervalMs:          milliseconds(m.config.LoadReportInterval),
		ComprehensiveHeartbeatIntervalMs: milliseconds(comprehensiveEvery * m.config.LoadReportInterval),
	}, nil
}

// dialectOf is the package name of the call.
func dialectOf(ctx context.Context) fsm.Dialect {
	if method, _ := grpc.Method(ctx); strings.HasPrefix(method, "/"+packageV1) {
		return fsm.DialectV1
	}
	return fsm.DialectV0
}

func milliseconds(d time.Duration) uint64 { return uint64(d.Milliseconds()) }

// FastHeartbeat takes a meeting controller's capacity and health.
func (m meetingControllers) FastHeartbeat(ctx context.Context, req *darktowerv1.FastHeartbeatRequest) (*darktowerv1.FastHeartbeatResponse, error) {
	r, err := m.report(ctx, &commandv1.ReportLoad{
		Kind:   fsm.MeetingController,
		Id:     req.ControllerId,
		Health: fsm.Health(req.Health),
		Usage:  usage(req.Capacity),
	})
	if err != nil {
		return nil, err
	}
	return &darktowerv1.FastHeartbeatResponse{Acknowledged: true, Timestamp: unixSeconds(r)}, nil
}

// reportName is how headerReport names a report.
const reportName = "%d/%d"

// ComprehensiveHeartbeat also takes what the controller hosts, and names what it must drop. The
// leader alone knows that, so the call goes to it whole.
func (m meetingControllers) ComprehensiveHeartbeat(ctx context.Context, req *darktowerv1.ComprehensiveHeartbeatRequest) (*darktowerv1.ComprehensiveHeartbeatResponse, error) {
	const method = darktowerv1.GlobalControllerService_ComprehensiveHeartbeat_FullMethodName
	rep := &commandv1.ReportLoad{
		Kind:          fsm.MeetingController,
		Id:            req.ControllerId,
		Health:        fsm.Health(req.Health),
		Usage:         usage(req.Capacity),
		CpuPercent:    req.CpuUsagePercent,
		MemoryPercent: req.MemoryUsagePercent,
	}
	if _, err := fmt.Sscanf(passedOn(ctx, headerReport), reportName, &rep.Session, &rep.Sequence); err != nil {
		m.number(rep)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, headerReport, fmt.Sprintf(reportName, rep.Session, rep.Sequence))
	return atLeader(ctx, m.Server, "ComprehensiveHeartbeat",
		func() (*darktowerv1.ComprehensiveHeartbeatResponse, error) {
			return m.heartbeatHere(ctx, rep, req.Hosted)
		},
		func(ctx context.Context, leader *leaderView) (*darktowerv1.ComprehensiveHeartbeatResponse, error) {
			resp := new(darktowerv1.ComprehensiveHeartbeatResponse)
			reflected, err := pass(ctx, m.Server, leader, method, req, resp)
			if err == nil {
				setHeader(ctx, reflected)
			}
			return resp, err
		})
}

func (m meetingControllers) heartbeatHere(ctx context.Context, rep *commandv1.ReportLoad, hosted []*darktowerv1.HostedMeeting) (*darktowerv1.ComprehensiveHeartbeatResponse, error) {
	lead := m.node.Leading()
	r, err := m.propose(ctx, &commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: rep}})
	if r, err = m.reported(ctx, rep, r, err); err != nil {
		return nil, err
	}
	// The commit proves that this leadership stood; what it knows in flight is its own.
	if m.node.Leading() != lead {
		return nil, raftnode.ErrInDoubt
	}
	drop, err := m.assigner.Reconcile(rep.Id, decodeHosted(hosted))
	if err != nil {
		return nil, err
	}
	return &darktowerv1.ComprehensiveHeartbeatResponse{
		Acknowledged: true, Timestamp: unixSeconds(r), Release: encodeHosted(drop),
	}, nil
}

// NotifyMeetingEnded ends an assignment at its controller's word.
func (m meetingControllers) NotifyMeetingEnded(ctx context.Context, req *darktowerv1.NotifyMeetingEndedRequest) (*darktowerv1.NotifyMeetingEndedResponse, error) {
	e := ending{
		key:          fsm.MeetingKey{Region: req.Region, MeetingID: req.MeetingId},
		token:        req.FencingToken,
		reason:       "ended by its meeting controller",
		byController: true,
	}
	if err := m.end(ctx, e); err != nil {
		return nil, err
	}
	return &darktowerv1.NotifyMeetingEndedResponse{Acknowledged: true}, nil
}

func usage(c *darktowerv1.ControllerCapacity) *commandv1.Usage {
	if c == nil {
		return nil
	}
	return &commandv1.Usage{
		Used: c.CurrentMeetings, Capacity: c.MaxMeetings,
		Participants: c.CurrentParticipants, MaxParticipants: c.MaxParticipants,
	}
}

func decodeHosted(hosted []*darktowerv1.HostedMeeting) []assign.Hosted {
	out := make([]assign.Hosted, len(hosted))
	for i, h := range hosted {
		out[i] = assign.Hosted{Key: fsm.MeetingKey{Region: h.Region, MeetingID: h.MeetingId}, Token: h.FencingToken}
	}
	return out
}

func encodeHosted(hosted []assign.Hosted) []*darktowerv1.HostedMeeting {
	out := make([]*darktowerv1.HostedMeeting, len(hosted))
	for i, h := range hosted {
		out[i] = &darktowerv1.HostedMeeting{MeetingId: h.Key.MeetingID, Region: h.Key.Region, FencingToken: h.Token}
	}
	return out
}
