package assign

import (
	"fmt"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
)

// burst is many joins between two load reports: nodes that have reported once, and from then on
// nothing but commits to tell the leader how loaded they are.
type burst struct {
	t    *testing.T
	log  *fakeLog
	next uint64
	// waiting are placements chosen and not committed yet, as of joins that run at once.
	waiting []chosen
	on      map[nodeKey]int // meetings by node
}

type chosen struct {
	mc  *fsm.Node
	mhs []*fsm.Node
}

const (
	burstJoins  = 10_000
	burstAtOnce = 64
)

// newBurst registers a fleet of media handlers, the capacities in turn, and controllers enough.
func newBurst(t *testing.T, observer fsm.Observer, handlers int, capacities ...uint32) *burst {
	log := newFakeLog(observer)
	now := int64(1_000_000)
	log.stampMs = func() int64 { return now }
	for i := range handlers {
		log.handler(nodeID("mh", i), fmt.Sprintf("zone-%d", i/len(capacities)%4), 0, capacities[i%len(capacities)])
	}
	for i := range 20 {
		log.ready(registration{kind: fsm.MeetingController, id: nodeID("mc", i), zone: fmt.Sprintf("zone-%d", i%4), capacity: 2000})
	}
	log.stampMs = func() int64 { now++; return now } // 10 000 joins in ten seconds
	return &burst{t: t, log: log, on: make(map[nodeKey]int)}
}

// join chooses as the assigner does, and commits when as many joins are under way as there are
// at once: the one that began longest ago, or by turns a later one.
func (b *burst) join(x *Index) {
	c := chosen{mc: x.Choose(anyController), mhs: x.chooseMediaHandlers("eu", "")}
	if c.mc == nil || len(c.mhs) != 2 {
		b.t.Fatalf("join %d: chose %v and %d media handlers", b.next, c.mc, len(c.mhs))
	}
	b.waiting = append(b.waiting, c)
	if len(b.waiting) == burstAtOnce {
		b.commit(x, int(b.next)%3*burstAtOnce/4)
	}
}

func (b *burst) commit(x *Index, i int) {
	c := b.waiting[i]
	b.waiting = append(b.waiting[:i], b.waiting[i+1:]...)
	b.next++
	b.log.place(b.t, nodeID("m", int(b.next)), b.next, c.mc.ID, c.mhs[0].ID, c.mhs[1].ID)
	for _, n := range append(c.mhs, c.mc) {
		x.Done(n)
		b.on[nodeKey{n.Kind, n.ID}]++
	}
}

func (b *burst) drain(x *Index) {
	for len(b.waiting) > 0 {
		b.commit(x, 0)
	}
}

func (b *burst) joins(x *Index, n int) {
	for range n {
		b.join(x)
	}
	b.drain(x)
}

// busiest is what the busiest node of a kind has, as a multiple of the mean.
func (b *burst) busiest(kind fsm.Kind, nodes int) float64 {
	var most, total int
	for key, n := range b.on {
		if key.kind == kind {
			most = max(most, n)
			total += n
		}
	}
	return float64(most) * float64(nodes) / float64(total)
}

// fairBusiest is how much busier than the mean the busiest of equal nodes may be.
const fairBusiest = 1.25

func (b *burst) expectEven(kind fsm.Kind, nodes int) {
	b.t.Helper()
	got := b.busiest(kind, nodes)
	b.t.Logf("kind %v: the busiest of %d has %.3f × the mean", kind, nodes, got)
	if got > fairBusiest {
		b.t.Errorf("kind %v: the busiest has %.3f × the mean, want at most %.2f", kind, got, fairBusiest)
	}
}

func TestABurstOverEqualNodesIsEven(t *testing.T) {
	x := NewIndex()
	b := newBurst(t, x, 200, 500)
	b.joins(x, burstJoins)
	b.expectEven(fsm.MediaHandler, 200)
	b.expectEven(fsm.MeetingController, 20)
	b.log.machine.View(func(s *fsm.State) {
		if n := s.Counts().LiveAssignments; n != burstJoins {
			t.Errorf("%d assignments are live, want %d", n, burstJoins)
		}
	})
}

func TestNodesThatDifferInSizeFillInProportion(t *testing.T) {
	capacities := []uint32{100, 200, 400, 800}
	x := NewIndex()
	b := newBurst(t, x, 200, capacities...)
	b.joins(x, burstJoins)
	perCapacity := 2 * float64(burstJoins) / (50 * (100 + 200 + 400 + 800))
	for i := range 200 {
		id := nodeID("mh", i)
		want := perCapacity * float64(capacities[i%4])
		if got := float64(b.on[nodeKey{fsm.MediaHandler, id}]); got < 0.85*want || got > 1.15*want {
			t.Errorf("%s of %d streams has %.0f meetings, want %.1f ± 15 %%", id, capacities[i%4], got, want)
		}
	}
}

// A new leader has never chosen anything; all it knows is what the log told it as a follower.
func TestANewLeaderGoesOnEvenly(t *testing.T) {
	leader, follower := NewIndex(), NewIndex()
	b := newBurst(t, observers{leader, follower}, 200, 500)
	b.joins(leader, burstJoins/2)
	b.joins(follower, burstJoins/2)
	b.expectEven(fsm.MediaHandler, 200)
	b.expectEven(fsm.MeetingController, 20)
}

type observers []fsm.Observer

func (all observers) NodeChanged(n *fsm.Node) {
	for _, o := range all {
		o.NodeChanged(n)
	}
}

func (all observers) Reset(s *fsm.State) {
	for _, o := range all {
		o.Reset(s)
	}
}

// withoutInFlight keeps from an index what was placed since a node's last report.
type withoutInFlight struct{ *Index }

func (w withoutInFlight) NodeChanged(n *fsm.Node) {
	bare := *n
	bare.Placements = nil
	w.Index.NodeChanged(&bare)
}

// The counter-proof: the bursts above are even because of what is in flight, and for no other
// reason.
func TestABurstHerdsWithoutWhatIsInFlight(t *testing.T) {
	x := NewIndex()
	b := newBurst(t, withoutInFlight{x}, 200, 500)
	for range burstJoins / 10 {
		b.join(x)
		b.drain(x)
	}
	got := b.busiest(fsm.MediaHandler, 200)
	t.Logf("the busiest has %.1f × the mean", got)
	if got < 5*fairBusiest {
		t.Errorf("the busiest has only %.3f × the mean: the bursts above would be even in any case", got)
	}
}
