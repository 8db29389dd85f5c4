package grpcsvc

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/fsm"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// From the records of the state to the messages of the services.

func encodeAssignment(a *fsm.Assignment) *conclavev1.Assignment {
	return &conclavev1.Assignment{
		MeetingId:              a.MeetingID,
		Region:                 a.Region,
		FencingToken:           a.Token,
		McId:                   a.MCID,
		McGrpcEndpoint:         a.MCGRPCEndpoint,
		McWebtransportEndpoint: a.MCWebTransportEndpoint,
		MhAssignments:          assign.MhAssignments(a.MediaHandlers),
		AssignedByGcId:         a.AssignedBy,
		AssignedAt:             timestamp(a.AssignedAtMs),
		EndedAt:                timestamp(a.EndedAtMs),
		EndReason:              a.EndReason,
	}
}

func encodePlacement(p assign.Placement) *conclavev1.AssignMeetingResponse {
	return &conclavev1.AssignMeetingResponse{Assignment: encodeAssignment(p.Assignment), Created: p.Created}
}

func (s *Server) encodeMediaHandler(n *fsm.Node) *conclavev1.MediaHandler {
	pending := s.index.Pending(n.Kind, n.ID)
	return &conclavev1.MediaHandler{
		HandlerId:             n.ID,
		Region:                n.Region,
		Zone:                  n.Zone,
		WebtransportEndpoint:  n.WebTransportEndpoint,
		GrpcEndpoint:          n.GRPCEndpoint,
		MaxStreams:            n.Capacity,
		CurrentStreams:        n.Used,
		Health:                darktowerv1.HealthStatus(n.Health),
		CpuUsagePercent:       n.CPUPercent,
		MemoryUsagePercent:    n.MemoryPercent,
		BandwidthUsagePercent: n.BandwidthPercent,
		Load:                  n.Load(pending),
		InFlight:              n.InFlight() + pending,
		RegisteredAt:          timestamp(n.RegisteredAtMs),
		LastReportAt:          timestamp(n.LastReportMs),
	}
}

func (s *Server) encodeMeetingController(n *fsm.Node) *conclavev1.MeetingController {
	pending := s.index.Pending(n.Kind, n.ID)
	return &conclavev1.MeetingController{
		Id:                   n.ID,
		Region:               n.Region,
		Zone:                 n.Zone,
		GrpcEndpoint:         n.GRPCEndpoint,
		WebtransportEndpoint: n.WebTransportEndpoint,
		Capacity: &darktowerv1.ControllerCapacity{
			MaxMeetings:         n.Capacity,
			CurrentMeetings:     n.Used,
			MaxParticipants:     n.MaxParticipants,
			CurrentParticipants: n.Participants,
		},
		Health:          darktowerv1.HealthStatus(n.Health),
		Load:            n.Load(pending),
		InFlight:        n.InFlight() + pending,
		RegisteredAt:    timestamp(n.RegisteredAtMs),
		LastHeartbeatAt: timestamp(n.LastReportMs),
	}
}

func encodeMember(m raftnode.Member, announced *fsm.Member) *conclavev1.Member {
	out := &conclavev1.Member{Id: m.ID, RaftAddress: m.RaftAddress, Suffrage: "nonvoter"}
	if m.Voter {
		out.Suffrage = "voter"
	}
	if announced != nil {
		out.GrpcAddress = announced.GRPCAddress
	}
	return out
}

// timestamp is nil for 0: it has not happened.
func timestamp(unixMs int64) *timestamppb.Timestamp {
	if unixMs == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(unixMs))
}
