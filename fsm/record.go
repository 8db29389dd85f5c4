package fsm

import (
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Between the records of the state and those of a snapshot.

func encodeMember(m *Member) *commandv1.Member {
	return &commandv1.Member{Id: m.ID, GrpcAddress: m.GRPCAddress, CommandVersion: m.CommandVersion}
}

func decodeMember(m *commandv1.Member) *Member {
	return &Member{ID: m.Id, GRPCAddress: m.GrpcAddress, CommandVersion: m.CommandVersion}
}

func encodeNode(n *Node) *commandv1.Node {
	rec := &commandv1.Node{
		Kind:                 n.Kind,
		Id:                   n.ID,
		Region:               n.Region,
		Zone:                 n.Zone,
		GrpcEndpoint:         n.GRPCEndpoint,
		WebtransportEndpoint: n.WebTransportEndpoint,
		Dialect:              n.Dialect,
		Capacity:             n.Capacity,
		Used:                 n.Used,
		MaxParticipants:      n.MaxParticipants,
		Participants:         n.Participants,
		CpuPercent:           n.CPUPercent,
		MemoryPercent:        n.MemoryPercent,
		BandwidthPercent:     n.BandwidthPercent,
		Health:               n.Health,
		RegistrationId:       n.RegistrationID,
		Incarnation:          n.Incarnation,
		RegisteredUnixMs:     n.RegisteredAtMs,
		HeardIndex:           n.HeardIndex,
		LastReportUnixMs:     n.LastReportMs,
	}
	if n.Reported != [maxSessions]ReportSession{} {
		for _, r := range n.Reported {
			rec.Reported = append(rec.Reported, &commandv1.ReportSession{Id: r.ID, Sequence: r.Sequence})
		}
	}
	for _, p := range n.Placements {
		rec.Placements = append(rec.Placements, &commandv1.Placement{UnixS: p.UnixSeconds, Count: p.Count})
	}
	return rec
}

func decodeNode(rec *commandv1.Node) *Node {
	n := &Node{
		Kind:                 rec.Kind,
		ID:                   rec.Id,
		Region:               rec.Region,
		Zone:                 rec.Zone,
		GRPCEndpoint:         rec.GrpcEndpoint,
		WebTransportEndpoint: rec.WebtransportEndpoint,
		Dialect:              rec.Dialect,
		Capacity:             rec.Capacity,
		Used:                 rec.Used,
		MaxParticipants:      rec.MaxParticipants,
		Participants:         rec.Participants,
		CPUPercent:           rec.CpuPercent,
		MemoryPercent:        rec.MemoryPercent,
		BandwidthPercent:     rec.BandwidthPercent,
		Health:               rec.Health,
		RegistrationID:       rec.RegistrationId,
		Incarnation:          rec.Incarnation,
		RegisteredAtMs:       rec.RegisteredUnixMs,
		HeardIndex:           rec.HeardIndex,
		LastReportMs:         rec.LastReportUnixMs,
	}
	for i, r := range rec.Reported[:min(len(rec.Reported), maxSessions)] {
		n.Reported[i] = ReportSession{ID: r.GetId(), Sequence: r.GetSequence()}
	}
	for _, p := range rec.Placements {
		n.Placements = append(n.Placements, Placement{UnixSeconds: p.UnixS, Count: p.Count})
	}
	return n
}

// encodeAssignment fills in a record, which may have been used before, and returns it.
func encodeAssignment(rec *commandv1.Assignment, a *Assignment) *commandv1.Assignment {
	rec.MeetingId = a.MeetingID
	rec.Region = a.Region
	rec.FencingToken = a.Token
	rec.McId = a.MCID
	rec.McIncarnation = a.MCIncarnation
	rec.McGrpcEndpoint = a.MCGRPCEndpoint
	rec.McWebtransportEndpoint = a.MCWebTransportEndpoint
	rec.MediaHandlers = encodeMediaHandlers(rec.MediaHandlers[:0], a.MediaHandlers)
	rec.AssignedBy = a.AssignedBy
	rec.AssignedUnixMs = a.AssignedAtMs
	rec.EndedUnixMs = a.EndedAtMs
	rec.EndReason = a.EndReason
	rec.RequestId = a.Request
	return rec
}

// EncodeMediaHandlers returns the media handlers of an assignment as commands carry them.
func EncodeMediaHandlers(refs []MediaHandlerRef) []*commandv1.MediaHandlerRef {
	return encodeMediaHandlers(make([]*commandv1.MediaHandlerRef, 0, len(refs)), refs)
}

// encodeMediaHandlers appends to recs, and uses the records behind its end again.
func encodeMediaHandlers(recs []*commandv1.MediaHandlerRef, refs []MediaHandlerRef) []*commandv1.MediaHandlerRef {
	for i, mh := range refs {
		if i < cap(recs) {
			recs = recs[:i+1]
		} else {
			recs = append(recs, nil)
		}
		if recs[i] == nil {
			recs[i] = new(commandv1.MediaHandlerRef)
		}
		recs[i].Id, recs[i].WebtransportEndpoint, recs[i].GrpcEndpoint = mh.ID, mh.WebTransportEndpoint, mh.GRPCEndpoint
	}
	return recs
}

func decodeMediaHandlers(recs []*commandv1.MediaHandlerRef) []MediaHandlerRef {
	refs := make([]MediaHandlerRef, len(recs))
	for i, mh := range recs {
		refs[i] = MediaHandlerRef{mh.Id, mh.WebtransportEndpoint, mh.GrpcEndpoint}
	}
	return refs
}

func decodeAssignment(rec *commandv1.Assignment) *Assignment {
	return &Assignment{
		MeetingKey:             MeetingKey{Region: rec.Region, MeetingID: rec.MeetingId},
		Token:                  rec.FencingToken,
		MCID:                   rec.McId,
		MCIncarnation:          rec.McIncarnation,
		MCGRPCEndpoint:         rec.McGrpcEndpoint,
		MCWebTransportEndpoint: rec.McWebtransportEndpoint,
		MediaHandlers:          decodeMediaHandlers(rec.MediaHandlers),
		AssignedBy:             rec.AssignedBy,
		AssignedAtMs:           rec.AssignedUnixMs,
		EndedAtMs:              rec.EndedUnixMs,
		EndReason:              rec.EndReason,
		Request:                rec.RequestId,
	}
}
