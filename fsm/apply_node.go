package fsm

import (
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// register is an upsert. A node that registers again has restarted: a new incarnation, counters
// at zero, pending until it reports. The same registration applied twice registers once.
func (a applier) register(cmd *commandv1.RegisterNode) Result {
	old := a.Node(cmd.Kind, cmd.Id)
	if old != nil && old.RegistrationID == cmd.RegistrationId {
		return Result{Node: old}
	}
	n := &Node{
		Kind:                 cmd.Kind,
		ID:                   cmd.Id,
		Region:               cmd.Region,
		Zone:                 cmd.Zone,
		GRPCEndpoint:         cmd.GrpcEndpoint,
		WebTransportEndpoint: cmd.WebtransportEndpoint,
		Dialect:              cmd.Dialect,
		Capacity:             cmd.Capacity,
		MaxParticipants:      cmd.MaxParticipants,
		Health:               Pending,
		RegistrationID:       cmd.RegistrationId,
		Incarnation:          a.index,
		RegisteredAtMs:       a.stampMs,
		HeardIndex:           a.index,
	}
	if old != nil {
		n.Reported = old.Reported
	}
	a.putNode(n)
	return Result{Node: n}
}

// report takes a node's word for its load and health. One report brings a stale node back. What
// is sent again, or comes late, on a stream has no effect: it would undo a later word.
func (a applier) report(cmd *commandv1.ReportLoad) Result {
	old := a.Node(cmd.Kind, cmd.Id)
	if old == nil {
		return Result{Outcome: NotRegistered}
	}
	if old.hasTaken(cmd.Session, cmd.Sequence) {
		return Result{Outcome: Repeated, Node: old}
	}
	n := *old
	n.take(cmd.Session, cmd.Sequence)
	n.Health = cmd.Health
	n.CPUPercent, n.MemoryPercent, n.BandwidthPercent = cmd.CpuPercent, cmd.MemoryPercent, cmd.BandwidthPercent
	if u := cmd.Usage; u != nil {
		n.Used, n.Participants = u.Used, u.Participants
		if u.Capacity > 0 {
			n.Capacity = u.Capacity
		}
		if u.MaxParticipants > 0 {
			n.MaxParticipants = u.MaxParticipants
		}
		n.Placements = settled(n.Placements, a.stampMs/1000)
	}
	n.HeardIndex, n.LastReportMs = a.index, a.stampMs
	a.putNode(&n)
	return Result{Node: &n}
}

// markStale makes a silent node unhealthy, unless it was heard after the leader decided.
func (a applier) markStale(cmd *commandv1.MarkStale) Result {
	old := a.Node(cmd.Kind, cmd.Id)
	if old == nil {
		return Result{Outcome: NotRegistered}
	}
	if old.HeardIndex != cmd.HeardIndex {
		return Result{Outcome: Conflict, Node: old}
	}
	n := *old
	n.Health = Unhealthy
	a.putNode(&n)
	return Result{Node: &n}
}
