package fsm

import (
	"math"
	"reflect"
	"testing"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

var kinds = []Kind{MediaHandler, MeetingController}

// register registers a node of region "eu" with room for 100.
func register(kind Kind, id string, registration uint64) *commandv1.RegisterNode {
	return &commandv1.RegisterNode{
		Kind: kind, Id: id, Region: "eu", Zone: "a",
		GrpcEndpoint: "https://" + id + ":50051", WebtransportEndpoint: "https://" + id + ":4433",
		Capacity: 100, MaxParticipants: 1000, RegistrationId: registration,
	}
}

func report(kind Kind, id string, health Health, used uint32) *commandv1.ReportLoad {
	return &commandv1.ReportLoad{Kind: kind, Id: id, Health: health, Usage: &commandv1.Usage{Used: used}}
}

func TestRegistrationIsAnUpsert(t *testing.T) {
	for _, kind := range kinds {
		r := newReplica(t)
		cmd := register(kind, "node", 11)
		cmd.Dialect = DialectV0
		want := &Node{
			Kind: kind, ID: "node", Region: "eu", Zone: "a", Dialect: DialectV0,
			GRPCEndpoint: "https://node:50051", WebTransportEndpoint: "https://node:4433",
			Capacity: 100, MaxParticipants: 1000, Health: Pending, RegistrationID: 11,
			Incarnation: 1, HeardIndex: 1, RegisteredAtMs: 1000,
		}
		want.sum = want.digest()
		if got := r.must(1000, cmd).Node; !reflect.DeepEqual(got, want) {
			t.Errorf("%v registered as\n%+v, want\n%+v", kind, got, want)
		}

		r.must(2000, &commandv1.ReportLoad{
			Kind: kind, Id: "node", Health: Healthy, CpuPercent: 5, MemoryPercent: 6, BandwidthPercent: 7,
			Usage: &commandv1.Usage{Used: 3, Participants: 9, Capacity: 50, MaxParticipants: 60},
		})
		cmd.RegistrationId, cmd.Capacity, cmd.Zone = 12, 200, "b"
		again := r.must(3000, cmd).Node
		want.RegistrationID, want.Capacity, want.Zone = 12, 200, "b"
		want.Incarnation, want.HeardIndex, want.RegisteredAtMs = 3, 3, 3000
		want.sum = want.digest()
		if !reflect.DeepEqual(again, want) {
			t.Errorf("%v that restarted is\n%+v, want a new incarnation, pending, with nothing counted:\n%+v", kind, again, want)
		}
		if got := r.state().Counts(); got.MediaHandlers+got.MeetingControllers != 1 {
			t.Errorf("counts %+v, want one node", got)
		}
		checkInvariants(t, r.state())
	}
}

func TestTheSameRegistrationRegistersOnce(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "mh", 11))
	r.must(2000, report(MediaHandler, "mh", Healthy, 3))
	got := r.must(2000, register(MediaHandler, "mh", 11)).Node
	if got.Incarnation != 1 || got.Health != Healthy || got.Used != 3 {
		t.Errorf("a registration forwarded twice undid the report between: %+v", got)
	}
}

func TestKindsHaveSeparateIds(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "same", 1))
	r.must(1000, register(MeetingController, "same", 1))
	if got := r.state().Counts(); got.MediaHandlers != 1 || got.MeetingControllers != 1 {
		t.Errorf("counts %+v, want one of each kind", got)
	}
}

func TestReport(t *testing.T) {
	base := &commandv1.Usage{Used: 30, Participants: 300, Capacity: 80, MaxParticipants: 800}
	for name, tc := range map[string]struct {
		usage *commandv1.Usage
		want  *commandv1.Usage
	}{
		"counts are taken":              {&commandv1.Usage{Used: 1, Participants: 2, Capacity: 3, MaxParticipants: 4}, &commandv1.Usage{Used: 1, Participants: 2, Capacity: 3, MaxParticipants: 4}},
		"zero is a count":               {&commandv1.Usage{Capacity: 3, MaxParticipants: 4}, &commandv1.Usage{Capacity: 3, MaxParticipants: 4}},
		"absent usage keeps the counts": {nil, &commandv1.Usage{Used: 30, Participants: 300, Capacity: 80, MaxParticipants: 800}},
		"capacity 0 is as before":       {&commandv1.Usage{Used: 1, Participants: 2}, &commandv1.Usage{Used: 1, Participants: 2, Capacity: 80, MaxParticipants: 800}},
	} {
		for _, kind := range kinds {
			r := newReplica(t)
			r.must(1000, register(kind, "node", 1))
			r.must(2000, &commandv1.ReportLoad{Kind: kind, Id: "node", Health: Healthy, Usage: base})
			n := r.must(3000, &commandv1.ReportLoad{
				Kind: kind, Id: "node", Health: Degraded, Usage: tc.usage,
				CpuPercent: 10, MemoryPercent: 20, BandwidthPercent: 30,
			}).Node
			if n.Used != tc.want.Used || n.Participants != tc.want.Participants ||
				n.Capacity != tc.want.Capacity || n.MaxParticipants != tc.want.MaxParticipants {
				t.Errorf("%s: %+v", name, n)
			}
			if n.Health != Degraded || n.CPUPercent != 10 || n.MemoryPercent != 20 || n.BandwidthPercent != 30 {
				t.Errorf("%s: the node's word for itself was not taken: %+v", name, n)
			}
			if n.HeardIndex != 3 || n.LastReportMs != 3000 || n.Incarnation != 1 || n.RegisteredAtMs != 1000 {
				t.Errorf("%s: heard at %d (%d ms), incarnation %d (%d ms)", name, n.HeardIndex, n.LastReportMs, n.Incarnation, n.RegisteredAtMs)
			}
			if r.node(kind, "node") != n {
				t.Errorf("%s: the result is not what stands", name)
			}
			checkInvariants(t, r.state())
		}
	}
}

func TestUnregisteredNodes(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "mh", 1))
	before := r.state().Hash()
	r.expect(NotRegistered, 1000, report(MediaHandler, "other", Healthy, 1))
	r.expect(NotRegistered, 1000, report(MeetingController, "mh", Healthy, 1))
	r.expect(NotRegistered, 1000, &commandv1.MarkStale{Kind: MeetingController, Id: "mh", HeardIndex: 1})
	if r.state().Hash() != before {
		t.Error("a command on a node that is not registered changed the state")
	}
}

func TestSilenceMakesUnhealthy(t *testing.T) {
	for _, kind := range kinds {
		for _, health := range []Health{Pending, Healthy, Degraded, Unhealthy, Draining} {
			r := newReplica(t)
			r.must(1000, register(kind, "node", 1))
			if health != Pending { // pending: it has never reported
				r.must(2000, report(kind, "node", health, 7))
			}
			seen := r.node(kind, "node").HeardIndex
			n := r.must(40_000, &commandv1.MarkStale{Kind: kind, Id: "node", HeardIndex: seen}).Node
			if n.Health != Unhealthy || n.HeardIndex != seen {
				t.Errorf("silent %v %v became %v, heard at %d", health, kind, n.Health, n.HeardIndex)
			}
			n = r.must(41_000, report(kind, "node", Healthy, 7)).Node
			if n.Health != Healthy || !n.Selectable() {
				t.Errorf("one report must bring a stale %v back, it is %v", kind, n.Health)
			}
			checkInvariants(t, r.state())
		}
	}
}

func TestAReportWinsOverSilence(t *testing.T) {
	for name, heard := range map[string]*commandv1.ReportLoad{
		"report":                report(MediaHandler, "mh", Draining, 7),
		"report with no counts": {Kind: MediaHandler, Id: "mh", Health: Draining},
	} {
		r := newReplica(t)
		seen := r.must(1000, register(MediaHandler, "mh", 1)).Node.HeardIndex
		r.must(2000, heard)
		got := r.expect(Conflict, 2000, &commandv1.MarkStale{Kind: MediaHandler, Id: "mh", HeardIndex: seen})
		if got.Node.Health != Draining || r.node(MediaHandler, "mh") != got.Node {
			t.Errorf("%s: the node is %v, want what it said of itself", name, got.Node.Health)
		}
	}
	r := newReplica(t)
	seen := r.must(1000, register(MediaHandler, "mh", 1)).Node.HeardIndex
	r.must(1000, register(MediaHandler, "mh", 2))
	r.expect(Conflict, 2000, &commandv1.MarkStale{Kind: MediaHandler, Id: "mh", HeardIndex: seen})
	if got := r.node(MediaHandler, "mh").Health; got != Pending {
		t.Errorf("a node that registered again is %v, want pending", got)
	}
}

func TestSelectable(t *testing.T) {
	for health, want := range map[Health]bool{Pending: false, Healthy: true, Degraded: true, Unhealthy: false, Draining: false} {
		if got := (&Node{Health: health, Capacity: 1}).Selectable(); got != want {
			t.Errorf("%v node: selectable %v", health, got)
		}
	}
	full := &Node{Health: Healthy, Capacity: 10, Used: 10}
	if full.Selectable() {
		t.Error("a full node is selectable")
	}
	busy := &Node{Health: Healthy, Capacity: 10, Used: 9, Placements: []Placement{{1, 5}}}
	if !busy.Selectable() {
		t.Error("what is in flight hides a node; it must only rank it")
	}
}

func TestLoadIsTheScarcestResource(t *testing.T) {
	for name, tc := range map[string]struct {
		node    Node
		pending uint32
		want    float64
	}{
		"idle":                        {Node{Kind: MediaHandler, Capacity: 100}, 0, 0},
		"streams":                     {Node{Kind: MediaHandler, Capacity: 100, Used: 40, CPUPercent: 30, BandwidthPercent: 20}, 0, 0.4},
		"cpu":                         {Node{Kind: MediaHandler, Capacity: 100, Used: 40, CPUPercent: 70, BandwidthPercent: 20}, 0, 0.7},
		"bandwidth":                   {Node{Kind: MediaHandler, Capacity: 100, Used: 40, CPUPercent: 30, BandwidthPercent: 90}, 0, 0.9},
		"an MC is loaded by meetings": {Node{Kind: MeetingController, Capacity: 100, Used: 40, CPUPercent: 90}, 0, 0.4},
		"in flight and pending":       {Node{Kind: MeetingController, Capacity: 100, Used: 40, Placements: []Placement{{1, 5}, {2, 5}}}, 10, 0.6},
		"above capacity":              {Node{Kind: MediaHandler, Capacity: 100, Used: 150}, 0, 1.5},
		"no capacity":                 {Node{Kind: MediaHandler, Used: 2}, 0, 2},
	} {
		if got := tc.node.Load(tc.pending); math.Abs(got-tc.want) > 1e-6 {
			t.Errorf("%s: load %v, want %v", name, got, tc.want)
		}
	}
}

func TestNodesInOrder(t *testing.T) {
	r := newReplica(t)
	for _, id := range []string{"c", "a", "d", "b"} {
		r.must(1000, register(MediaHandler, id, 1))
	}
	for after, want := range map[string]string{"": "abcd", "b": "cd", "bb": "cd", "d": ""} {
		got := ""
		r.state().Nodes(MediaHandler, after, func(n *Node) bool {
			got += n.ID
			return true
		})
		if got != want {
			t.Errorf("nodes after %q are %q, want %q", after, got, want)
		}
	}
}
