package replica

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// What the controller accepted, what is committed and what the client is told are the same.
func TestJoinAtTheFirstTry(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "first-try")
	answer := c.follower(t).join(t, "first-try", "m:1.a")
	a := answer.Assignment
	if !answer.Created || !hosts(mc, a) || len(a.MhAssignments) != 2 || a.MeetingId != "m:1.a" || a.Region != "first-try" {
		t.Errorf("got %v, the controller hosts %v", answer, mc.Hosted())
	}
	if a.McGrpcEndpoint != mc.Endpoint() || a.McWebtransportEndpoint == "" || a.AssignedAt == nil || a.EndedAt != nil ||
		a.AssignedByGcId != c.leader(t).id() || a.MhAssignments[0].WebtransportEndpoint == "" || a.MhAssignments[0].GrpcEndpoint == "" {
		t.Errorf("the answer is not whole: %v", a)
	}
	for _, m := range c.members {
		if live := m.live(t, "first-try", "m:1.a"); live == nil || !sameAssignment(live, a) {
			t.Errorf("%s says %v, want %v", m.id(), live, a)
		}
	}
}

func TestJoinWithoutRegionIsInTheReplicasOwn(t *testing.T) {
	c := startCluster(t, 3, func(config *Config) {
		if config.NodeID == "gc-2" {
			config.Region = "second"
		}
	})
	c.addRegion(t, "second")
	c.addRegion(t, "local")
	for i, region := range []string{"local", "second", "local"} {
		if a := c.members[i].join(t, "", "m").Assignment; a.Region != region {
			t.Errorf("%s assigned it in %s, want %s", c.members[i].id(), a.Region, region)
		}
		if live := c.members[i].live(t, "", "m"); live == nil || live.Region != region {
			t.Errorf("%s reads %v, want it in %s", c.members[i].id(), live, region)
		}
	}
	c.members[1].end(t, "", "m", 0)
	if c.members[0].live(t, "local", "m") == nil || c.members[0].live(t, "second", "m") != nil {
		t.Error("ending it at the replica of region second must end it there and only there")
	}
}

func TestJoinAgainIsGivenWhatIsThere(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "again")
	first := c.leader(t).join(t, "again", "m")
	for _, m := range c.members {
		answer := m.join(t, "again", "m")
		if answer.Created || !sameAssignment(answer.Assignment, first.Assignment) {
			t.Errorf("%s answers %v, want %v", m.id(), answer, first.Assignment)
		}
	}
	if n := mc.Count(sim.EventAssign, ""); n != 1 {
		t.Errorf("the controller was notified %d times, want once", n)
	}
}

// A refusal or a failure moves on to another controller, and the join still works.
func TestJoinTriesOtherControllers(t *testing.T) {
	reject := sim.Reject(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY)
	tests := map[string][]sim.Step{
		"after a refusal":               {reject},
		"after a failure":               {sim.Fail(codes.Internal)},
		"after a failure and a refusal": {sim.Fail(codes.Unavailable), reject},
		"after a refusal and a failure": {reject, sim.Fail(codes.Unimplemented)},
	}
	i := 0
	for name, steps := range tests {
		i++
		region := fmt.Sprintf("tries-%d", i)
		t.Run(name, func(t *testing.T) {
			c := shared(t)
			c.addMH(t, mh{id: region + "-mh", region: region})
			script := inTurn(steps...)
			var mcs []*sim.MeetingController
			for n := range 3 {
				mcs = append(mcs, c.addMC(t, fmt.Sprintf("%s-mc-%d", region, n), region, scripted(script)))
			}
			answer := c.follower(t).join(t, region, "m")
			if !answer.Created || askedOf(mcs) != len(steps)+1 {
				t.Errorf("got %v after %d notifications, want it created after %d", answer, askedOf(mcs), len(steps)+1)
			}
			hosting := slices.IndexFunc(mcs, func(mc *sim.MeetingController) bool { return hosts(mc, answer.Assignment) })
			if hosting < 0 {
				t.Errorf("no controller hosts %v", answer.Assignment)
			}
		})
	}
}

// inTurn goes through the steps once, whichever controller asks, and then accepts.
func inTurn(steps ...sim.Step) sim.Script {
	var mu sync.Mutex
	return func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		mu.Lock()
		defer mu.Unlock()
		if len(steps) == 0 {
			return sim.Accept()
		}
		step := steps[0]
		steps = steps[1:]
		return step
	}
}

// A refusal says more than a silence, whichever came last.
func TestMixedFailuresAreReportedAsTheRefusal(t *testing.T) {
	c := shared(t)
	const region = "mixed"
	c.addMH(t, mh{id: "mixed-mh", region: region})
	script := inTurn(
		sim.Reject(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY),
		sim.Reject(darktowerv1.RejectionReason_REJECTION_REASON_DRAINING),
		sim.Fail(codes.Unavailable))
	for n := range 3 {
		c.addMC(t, fmt.Sprintf("mixed-mc-%d", n), region, scripted(script))
	}
	_, err := c.follower(t).tryJoin(t.Context(), region, "m")
	controllersDraining.must(t, err)
}

// Many who join one meeting at once, anywhere, cause one notification and get one answer.
func TestConcurrentJoinsOfOneMeeting(t *testing.T) {
	c := shared(t)
	const callers = 64
	mc := c.addRegion(t, "crowd")
	answers := make([]*conclavev1.AssignMeetingResponse, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var err error
			if answers[i], err = c.members[i%3].tryJoin(t.Context(), "crowd", "m"); err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	created := 0
	for i, answer := range answers {
		if answer.Created {
			created++
		}
		if !sameAssignment(answer.Assignment, answers[0].Assignment) {
			t.Errorf("caller %d was told %v, caller 0 %v", i, answer.Assignment, answers[0].Assignment)
		}
	}
	if created != 1 {
		t.Errorf("%d callers were told that they created it, want one", created)
	}
	if n := mc.Count(sim.EventAssign, ""); n != 1 || !hosts(mc, answers[0].Assignment) {
		t.Errorf("%d notifications, want one; hosted: %v", n, mc.Hosted())
	}
}

// A caller in a zone is preferably given nodes of that zone: by a factor, not by rule.
func TestPreferredZoneIsPreferred(t *testing.T) {
	c := shared(t)
	const region, joins = "preferred", 200
	for _, zone := range []string{"a", "b"} {
		c.addMH(t, mh{id: "preferred-" + zone, region: region, zone: zone, max: 1_000_000})
	}
	c.addMC(t, "preferred-mc", region, func(config *sim.MeetingControllerConfig) { config.MaxMeetings = 1_000_000 })
	preferred := 0
	for i := range joins {
		answer, err := c.leader(t).gateway().AssignMeeting(t.Context(), &conclavev1.AssignMeetingRequest{
			MeetingId: fmt.Sprint("m-", i), Region: region, PreferredZone: "b"})
		if err != nil {
			t.Fatal(err)
		}
		if handlerIDs(answer.Assignment)[0] == "preferred-b" {
			preferred++
		}
	}
	// 1.2 to 1 is 109 of 200, give or take 7; these bounds are 5 of those away.
	if preferred < 74 || preferred > 144 {
		t.Errorf("%d of %d primaries are in the preferred zone, want about 109", preferred, joins)
	}
}
