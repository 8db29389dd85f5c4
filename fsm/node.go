package fsm

import (
	"slices"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Kind tells media handlers from meeting controllers. Both are nodes: they register, report,
// fall silent and are chosen by the same rules.
type Kind = commandv1.Kind

// The two kinds of node.
const (
	MediaHandler      = commandv1.Kind_KIND_MEDIA_HANDLER
	MeetingController = commandv1.Kind_KIND_MEETING_CONTROLLER
)

// Health is what a node last said of itself, or Unhealthy once it has fallen silent.
type Health = commandv1.Health

// The states of health. Only Healthy and Degraded nodes are given new meetings.
const (
	Pending   = commandv1.Health_HEALTH_PENDING
	Healthy   = commandv1.Health_HEALTH_HEALTHY
	Degraded  = commandv1.Health_HEALTH_DEGRADED
	Unhealthy = commandv1.Health_HEALTH_UNHEALTHY
	Draining  = commandv1.Health_HEALTH_DRAINING
)

// Dialect is the package name under which a meeting controller speaks.
type Dialect = commandv1.Dialect

// The dialects: dark_tower.internal.v1, and dark_tower.internal before it.
const (
	DialectV1 = commandv1.Dialect_DIALECT_V1
	DialectV0 = commandv1.Dialect_DIALECT_V0
)

// Node is a registered media handler or meeting controller. A Node that left this package is
// never changed: an update makes a new one.
type Node struct {
	Kind                 Kind
	ID                   string
	Region               string
	Zone                 string
	GRPCEndpoint         string
	WebTransportEndpoint string
	Dialect              Dialect

	// Capacity and Used count streams of an MH, meetings of an MC.
	Capacity uint32
	Used     uint32
	// Participants are counted by MCs only.
	MaxParticipants uint32
	Participants    uint32
	// Percent, 0 to 100; 0 is not measured.
	CPUPercent       float32
	MemoryPercent    float32
	BandwidthPercent float32
	Health           Health

	// RegistrationID was drawn by the replica that received the registration.
	RegistrationID uint64
	// Incarnation is the Raft index of the registration: every restart has its own.
	Incarnation    uint64
	RegisteredAtMs int64
	// HeardIndex is the Raft index of the last registration or report.
	HeardIndex uint64
	// LastReportMs is 0 until the first report of this incarnation.
	LastReportMs int64
	// Reported are the latest sessions in which the node's reports came, the last first. They stay
	// when it registers again: what was sent before still comes before.
	Reported [maxSessions]ReportSession
	// Placements are meetings given to the node that no report can have counted yet, the
	// oldest first.
	Placements []Placement

	sum sum
}

// ReportSession is a source of numbered reports, a stream or a replica that took them one by one,
// and the greatest number of it that took effect. The zero value is none.
type ReportSession struct {
	ID       uint64
	Sequence uint64
}

// maxSessions is how many sessions of a node are told apart: it reports through one of five
// replicas, and what is sent again was sent first a moment ago.
const maxSessions = 4

// hasTaken says whether a report took effect, or a later one of its session. One without a session
// is new by being there.
func (n *Node) hasTaken(session, sequence uint64) bool {
	if session == 0 {
		return false
	}
	for _, r := range n.Reported {
		if r.ID == session {
			return sequence <= r.Sequence
		}
	}
	return false
}

// take puts a report's session first.
func (n *Node) take(session, sequence uint64) {
	if session == 0 {
		return
	}
	at := slices.IndexFunc(n.Reported[:], func(r ReportSession) bool { return r.ID == session })
	if at < 0 {
		at = maxSessions - 1
	}
	copy(n.Reported[1:at+1], n.Reported[:at])
	n.Reported[0] = ReportSession{session, sequence}
}

// Placement counts what was placed on a node within one second of state time.
type Placement struct {
	UnixSeconds int64
	Count       uint32
}

const (
	// settleSeconds is how much older than a report a placement must be for the report to have
	// seen it: participants need a moment to arrive, a report a moment to travel.
	settleSeconds = 1
	// maxPlacements bounds the buckets of a node that takes meetings but never reports.
	maxPlacements = 32
)

// InFlight is how many meetings were placed on the node that no report can have counted yet.
func (n *Node) InFlight() uint32 {
	var count uint32
	for _, p := range n.Placements {
		count += p.Count
	}
	return count
}

// Load is the node's scarcest resource, 0 idle and 1 full, with pending and in-flight meetings
// added. It is not clamped: above capacity, the fuller node still ranks behind the less full.
// Memory is not counted, as neither kind of node runs short of it before the others.
func (n *Node) Load(pending uint32) float64 {
	load := ratio(n.Used, n.Capacity)
	if n.Kind == MediaHandler {
		load = max(load, float64(n.CPUPercent)/100, float64(n.BandwidthPercent)/100)
	}
	return load + ratio(n.InFlight()+pending, n.Capacity)
}

func ratio(used, capacity uint32) float64 {
	return float64(used) / float64(max(capacity, 1))
}

// Selectable says whether the node may be given a new meeting: it is healthy or degraded, and
// by its own last word has room. What is in flight ranks a node, it never hides it: a node
// whose placements all end again would otherwise cause a false "none available".
func (n *Node) Selectable() bool {
	return (n.Health == Healthy || n.Health == Degraded) && n.Used < n.Capacity
}

// placed returns the node with one more meeting in flight.
func (n *Node) placed(unixSeconds int64) *Node {
	next := *n
	next.Placements = slices.Clone(n.Placements)
	if last := len(next.Placements) - 1; last >= 0 && next.Placements[last].UnixSeconds >= unixSeconds {
		next.Placements[last].Count++
		return &next
	}
	next.Placements = append(next.Placements, Placement{UnixSeconds: unixSeconds, Count: 1})
	if len(next.Placements) > maxPlacements {
		next.Placements[1].Count += next.Placements[0].Count
		next.Placements = next.Placements[1:]
	}
	return &next
}

// unplaced returns the node without one meeting that was placed in that second and has ended;
// the node itself when a report has counted the meeting since.
func (n *Node) unplaced(unixSeconds int64) *Node {
	i := slices.IndexFunc(n.Placements, func(p Placement) bool { return p.UnixSeconds == unixSeconds })
	if i < 0 {
		return n
	}
	next := *n
	next.Placements = slices.Clone(n.Placements)
	if next.Placements[i].Count--; next.Placements[i].Count == 0 {
		next.Placements = slices.Delete(next.Placements, i, i+1)
	}
	return &next
}

// settled returns the placements that a report stamped at unixSeconds cannot have seen.
func settled(placements []Placement, unixSeconds int64) []Placement {
	for i, p := range placements {
		if p.UnixSeconds+settleSeconds >= unixSeconds {
			return slices.Clone(placements[i:])
		}
	}
	return nil
}
