package replica

import (
	"fmt"
	"sync"
	"testing"
	"time"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// Mistakes that shipped in comparable systems, one test each. Those about time and failover are
// in traps_time_test.go.

// Re-choosing MHs on every later join: joiners get MHs that the MC was never told of, and a full
// region breaks running meetings.
func TestTrap01LaterJoinsKeepTheirMediaHandlers(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-1")
	a := c.follower(t).join(t, "trap-1", "m").Assignment
	for _, id := range handlerIDs(a) { // full, and gone
		mh{id: id, region: "trap-1", used: 1000}.report(t, c.leader(t))
		mh{id: id, region: "trap-1", health: darktowerv1.HealthStatus_UNHEALTHY}.report(t, c.leader(t))
	}
	c.addMH(t, mh{id: "trap-1-idle", region: "trap-1", max: 1_000_000})
	for _, m := range c.members {
		if again := m.join(t, "trap-1", "m"); again.Created || !sameAssignment(again.Assignment, a) || !hosts(mc, again.Assignment) {
			t.Errorf("%s answers %v, the controller was told %v", m.id(), again, a)
		}
	}
	mh{id: "trap-1-idle", region: "trap-1", used: 1_000_000}.report(t, c.leader(t))
	_, err := c.follower(t).tryJoin(t.Context(), "trap-1", "new")
	noHandlers.must(t, err)
	if again := c.follower(t).join(t, "trap-1", "m"); !sameAssignment(again.Assignment, a) {
		t.Errorf("in a full region: %v, want %v", again, a)
	}
}

// An upsert that never clears ended_at: a meeting that ended normally cannot be joined again.
func TestTrap02EndedMeetingIsJoinedAgain(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-2")
	var last uint64
	for range 5 {
		answer := c.follower(t).join(t, "trap-2", "m")
		a := answer.Assignment
		if !answer.Created || a.EndedAt != nil || a.FencingToken <= last || !hosts(mc, a) {
			t.Fatalf("joined again: %v, want it new, live and above token %d", answer, last)
		}
		last = a.FencingToken
		c.leader(t).end(t, "trap-2", "m", last)
	}
}

// Reusing an assignment only when the MC is exactly healthy: a draining MC's live meeting is
// split by the next joiner.
func TestTrap03DrainingControllerKeepsItsMeetings(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-3")
	a := c.follower(t).join(t, "trap-3", "m").Assignment
	other := c.addMC(t, "trap-3-other", "trap-3")
	for _, health := range []darktowerv1.HealthStatus{darktowerv1.HealthStatus_DRAINING, darktowerv1.HealthStatus_DEGRADED} {
		mc.SetHealth(health)
		heartbeat(t, mc)
		for _, m := range c.members {
			if again := m.join(t, "trap-3", "m"); again.Created || !sameAssignment(again.Assignment, a) {
				t.Errorf("while %v, %s answers %v, want %v", health, m.id(), again, a)
			}
		}
	}
	if asked := eventsOf(mc, sim.EventAssign, "m"); len(asked) != 1 {
		t.Errorf("it was asked for its meeting again: %+v", asked)
	}
	mc.SetHealth(darktowerv1.HealthStatus_DRAINING)
	heartbeat(t, mc)
	if fresh := c.follower(t).join(t, "trap-3", "new").Assignment; !hosts(other, fresh) {
		t.Errorf("a new meeting is given to %s, which drains", fresh.McId)
	}
}

// Accept without a way to cancel: zombie meetings after a lost race or a timeout.
func TestTrap04AcceptanceThatTimedOutIsTakenBack(t *testing.T) {
	c := shared(t)
	c.addMH(t, mh{id: "trap-4-mh", region: "trap-4", max: 100})
	script := inTurn(sim.AcceptThenHang())
	mcs := []*sim.MeetingController{
		c.addMC(t, "trap-4-mc-1", "trap-4", scripted(script)),
		c.addMC(t, "trap-4-mc-2", "trap-4", scripted(script)),
	}
	a := c.follower(t).join(t, "trap-4", "m").Assignment
	for _, mc := range mcs {
		if mc.ID() != a.McId {
			notHosting(t, mc, "trap-4", "m")
		} else if !hosts(mc, a) {
			t.Errorf("%s hosts %v, want %v", mc.ID(), mc.Hosted(), a)
		}
	}
}

// A repeated notification that deletes the live meeting it repeats.
func TestTrap05RepeatedNotificationIsTheSame(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-5")
	a := c.follower(t).join(t, "trap-5", "m").Assignment
	// It restarts and remembers: the next join asks it again, with the same token and handlers.
	if err := mc.Restart(false); err != nil {
		t.Fatal(err)
	}
	heartbeat(t, mc)
	for _, m := range c.members {
		if again := m.join(t, "trap-5", "m"); again.Created || !sameAssignment(again.Assignment, a) || !hosts(mc, again.Assignment) {
			t.Errorf("%s answers %v, want %v", m.id(), again, a)
		}
	}
	asked := eventsOf(mc, sim.EventAssign, "m")
	if len(asked) != 2 || asked[1].Outcome != sim.OutcomeRepeated || asked[1].Token != a.FencingToken {
		t.Errorf("it was asked %+v, want the same again once", asked)
	}
	// It restarts and has forgotten: asked again, it takes the meeting up again.
	if err := mc.Restart(true); err != nil {
		t.Fatal(err)
	}
	heartbeat(t, mc)
	if again := c.follower(t).join(t, "trap-5", "m"); !sameAssignment(again.Assignment, a) || !hosts(mc, again.Assignment) {
		t.Errorf("after it forgot: %v, it hosts %v", again, mc.Hosted())
	}
	if released := eventsOf(mc, sim.EventRelease, "m"); len(released) != 0 {
		t.Errorf("it was told to release its live meeting: %+v", released)
	}
}

// A restarted controller that does not take its meeting again loses it to another.
func TestMeetingThatARestartedControllerRefusesMoves(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "restarted")
	a := c.follower(t).join(t, "restarted", "m").Assignment
	if err := mc.Restart(true); err != nil {
		t.Fatal(err)
	}
	mc.SetScript(sim.Always(sim.Reject(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY)))
	heartbeat(t, mc)
	heir := c.addMC(t, "restarted-heir", "restarted")
	moved := c.follower(t).join(t, "restarted", "m")
	if !moved.Created || !hosts(heir, moved.Assignment) || moved.Assignment.FencingToken <= a.FencingToken {
		t.Errorf("got %v, want it at the heir with a token above %d", moved, a.FencingToken)
	}
}

// The host choosing its own generation: a stale host always wins.
func TestTrap06HostCannotChooseItsToken(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-6")
	a := c.follower(t).join(t, "trap-6", "m").Assignment
	for _, token := range []uint64{a.FencingToken + 1, 1 << 62} {
		fenced.must(t, endByController(t, c.follower(t), "trap-6", "m", token))
		answer, err := c.follower(t).controllers().ComprehensiveHeartbeat(t.Context(), &darktowerv1.ComprehensiveHeartbeatRequest{
			ControllerId: mc.ID(), Health: darktowerv1.HealthStatus_HEALTHY,
			Hosted: []*darktowerv1.HostedMeeting{{MeetingId: "m", Region: "trap-6", FencingToken: token}}})
		if err != nil || !answer.Acknowledged {
			t.Fatalf("heartbeat: %v, %v", answer, err)
		}
	}
	if live := c.leader(t).live(t, "trap-6", "m"); live == nil || !sameAssignment(live, a) {
		t.Errorf("a token of its own making changed the meeting: %v, want %v", live, a)
	}
}

// Hiding a busy candidate while its request is in flight: false "none available".
func TestTrap10BusyCandidatesStayCandidates(t *testing.T) {
	c := shared(t)
	c.addMH(t, mh{id: "trap-10-mh", region: "trap-10", max: 2})
	c.addMC(t, "trap-10-mc", "trap-10", scripted(sim.Always(sim.Slow(200*time.Millisecond))))
	// The second round finds far more in flight than there is room for, and no report since.
	for round := range 2 {
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				if _, err := c.members[i%3].tryJoin(t.Context(), "trap-10", fmt.Sprint("m-", round, "-", i)); err != nil {
					t.Errorf("round %d, join %d: %v", round, i, err)
				}
			})
		}
		wg.Wait()
	}
}

// Independent caches per replica choosing concurrently: contention and herding.
func TestTrap11ReplicasDoNotHerd(t *testing.T) {
	c := shared(t)
	const handlers, joins = 10, 300
	for i := range handlers {
		c.addMH(t, mh{id: fmt.Sprint("trap-11-mh-", i), region: "trap-11", max: 1000})
	}
	c.addMC(t, "trap-11-mc", "trap-11")
	given := make(map[string]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range joins {
		wg.Go(func() {
			answer, err := c.members[i%3].tryJoin(t.Context(), "trap-11", fmt.Sprint("m-", i))
			if err != nil {
				t.Errorf("join %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, id := range handlerIDs(answer.Assignment) {
				given[id]++
			}
		})
	}
	wg.Wait()
	mean := 2 * joins / handlers
	for id, n := range given {
		if 4*n > 5*mean {
			t.Errorf("%s was given %d, the mean is %d: %v", id, n, mean, given)
		}
	}
}

// Treating a health-check timeout like a definite failure: bursts bounce between two failing
// nodes.
func TestTrap12TimeoutStopsOnlyNewMeetings(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-12")
	a := c.follower(t).join(t, "trap-12", "m").Assignment
	mc.SetScript(sim.Always(sim.Hang()))
	_, err := c.follower(t).tryJoin(t.Context(), "trap-12", "new")
	controllersUnreached.must(t, err)
	if got := c.follower(t).controller(t, mc.ID()).Health; got != darktowerv1.HealthStatus_HEALTHY {
		t.Errorf("one timeout made it %v", got)
	}
	if again := c.follower(t).join(t, "trap-12", "m"); again.Created || !sameAssignment(again.Assignment, a) {
		t.Errorf("one timeout moved its meeting: %v, want %v", again, a)
	}
	// It is not asked again before it is heard again: that would only be another timeout.
	_, err = c.follower(t).tryJoin(t.Context(), "trap-12", "new")
	noControllers.must(t, err)
	mc.SetScript(nil)
	heartbeat(t, mc)
	if fresh := c.follower(t).join(t, "trap-12", "new").Assignment; !hosts(mc, fresh) {
		t.Errorf("after its heartbeat it hosts %v, want %v", mc.Hosted(), fresh)
	}
}

// Deleting a live call on any backend error.
func TestTrap13BackendErrorsDeleteNothing(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "trap-13")
	at := c.follower(t)
	a := at.join(t, "trap-13", "m").Assignment
	mc.Stop() // unreachable, but not silent for long
	for _, m := range c.members {
		if again := m.join(t, "trap-13", "m"); again.Created || !sameAssignment(again.Assignment, a) {
			t.Errorf("while its controller is unreachable: %v, want %v", again, a)
		}
	}
	_, err := at.tryJoin(t.Context(), "trap-13", "new")
	controllersUnreached.must(t, err)
	list, err := at.gateway().ListAssignments(t.Context(), &conclavev1.ListAssignmentsRequest{Region: "trap-13"})
	if err != nil || len(list.Assignments) != 1 || !sameAssignment(list.Assignments[0], a) {
		t.Errorf("live: %v, %v, want %v", list, err, a)
	}
}

// Unbounded retries towards one dead node: minutes of delay for one request.
func TestTrap14JoinOverDeadNodesIsBounded(t *testing.T) {
	c := shared(t)
	const dead, attempts = 5, 3
	c.addMH(t, mh{id: "trap-14-mh", region: "trap-14"})
	var mcs []*sim.MeetingController
	for i := range dead {
		mcs = append(mcs, c.addMC(t, fmt.Sprint("trap-14-mc-", i), "trap-14", scripted(sim.Always(sim.Hang()))))
	}
	began := time.Now()
	_, err := c.follower(t).tryJoin(t.Context(), "trap-14", "m")
	took := time.Since(began)
	controllersUnreached.must(t, err)
	timeout := c.members[0].config.MCTimeout
	if took > attempts*timeout+2*time.Second {
		t.Errorf("it took %v, %d controllers have %v each", took, attempts, timeout)
	}
	if asked := askedOf(mcs); asked != attempts {
		t.Errorf("%d notifications, want %d", asked, attempts)
	}
	for _, mc := range mcs {
		if asked := mc.Count(sim.EventAssign, ""); asked > 1 {
			t.Errorf("%s was asked %d times by one join", mc.ID(), asked)
		}
	}
}
