package replica

import (
	"strings"
	"testing"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// endCall is one of the two ways to end a meeting: by a gateway, or by its controller.
type endCall func(t *testing.T, at *member, region, meeting string, token uint64) error

func endByGateway(t *testing.T, at *member, region, meeting string, token uint64) error {
	answer, err := at.gateway().EndMeeting(t.Context(), &conclavev1.EndMeetingRequest{
		MeetingId: meeting, Region: region, FencingToken: token, Reason: "the test is over"})
	if err == nil && !answer.Ended {
		t.Error("no error, but not ended either")
	}
	return err
}

func endByController(t *testing.T, at *member, region, meeting string, token uint64) error {
	answer, err := at.controllers().NotifyMeetingEnded(t.Context(), &darktowerv1.NotifyMeetingEndedRequest{
		MeetingId: meeting, Region: region, FencingToken: token})
	if err == nil && !answer.Acknowledged {
		t.Error("no error, but not acknowledged either")
	}
	return err
}

func TestEndings(t *testing.T) {
	c := shared(t)
	for name, end := range map[string]endCall{"gateway": endByGateway, "controller": endByController} {
		t.Run(name, func(t *testing.T) {
			region := "ends-" + name
			mc := c.addRegion(t, region)
			c.addRegion(t, region+"-2")
			at, elsewhere := c.follower(t), c.leader(t)

			first := at.join(t, region, "m").Assignment
			other := at.join(t, region+"-2", "m").Assignment
			fenced.must(t, end(t, at, region, "m", first.FencingToken-1))
			fenced.must(t, end(t, at, region, "m", first.FencingToken+1))
			if live := elsewhere.live(t, region, "m"); live == nil || !sameAssignment(live, first) {
				t.Fatalf("a wrong token changed the meeting: %v", live)
			}

			if err := end(t, at, region, "m", first.FencingToken); err != nil {
				t.Fatalf("with its token: %v", err)
			}
			if live := elsewhere.live(t, region, "m"); live != nil {
				t.Errorf("it lives on: %v", live)
			}
			if live := elsewhere.live(t, region+"-2", "m"); live == nil || !sameAssignment(live, other) {
				t.Errorf("the same meeting in another region is %v, want it untouched", live)
			}
			if err := end(t, elsewhere, region, "m", first.FencingToken); err != nil {
				t.Errorf("the same end again, at another replica: %v", err)
			}

			second := at.join(t, region, "m")
			if !second.Created || second.Assignment.FencingToken <= first.FencingToken {
				t.Errorf("joined again: %v, want a new assignment with a token above %d", second, first.FencingToken)
			}
			fenced.must(t, end(t, at, region, "m", first.FencingToken))
			if live := at.live(t, region, "m"); live == nil || !hosts(mc, live) {
				t.Errorf("the old token disturbed the new assignment: %v", live)
			}
			if err := end(t, at, region, "m", 0); err != nil {
				t.Errorf("without a token, as an older controller does: %v", err)
			}
			if live := at.live(t, region, "m"); live != nil {
				t.Errorf("without a token, it lives on: %v", live)
			}
			fenced.must(t, end(t, at, region, "m", first.FencingToken))
		})
	}
}

// A gateway that ends nothing is told so; a controller that repeats itself is told that all is well.
func TestEndingAgainWithoutToken(t *testing.T) {
	c := shared(t)
	c.addRegion(t, "ends-twice")
	at := c.follower(t)
	at.join(t, "ends-twice", "m")
	if err := endByController(t, at, "ends-twice", "m", 0); err != nil {
		t.Fatal(err)
	}
	if err := endByController(t, at, "ends-twice", "m", 0); err != nil {
		t.Errorf("an older controller that repeats its word: %v", err)
	}
	noAssignment.must(t, endByGateway(t, at, "ends-twice", "m", 0))
}

// What a gateway ends, the controller drops at once; and why it ended is kept for audit.
func TestEndReachesTheControllerAndTheRecord(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "ends-told")
	at := c.follower(t)
	a := at.join(t, "ends-told", "m").Assignment
	if err := endByGateway(t, at, "ends-told", "m", a.FencingToken); err != nil {
		t.Fatal(err)
	}
	notHosting(t, mc, "ends-told", "m")
	list, err := at.gateway().ListAssignments(t.Context(), &conclavev1.ListAssignmentsRequest{Region: "ends-told", IncludeEnded: true})
	if err != nil || len(list.Assignments) != 1 {
		t.Fatalf("listing with what has ended: %v, %v", list, err)
	}
	ended := list.Assignments[0]
	if ended.EndReason != "the test is over" || ended.EndedAt.AsTime().Before(ended.AssignedAt.AsTime()) || !sameAssignment(ended, a) {
		t.Errorf("the record is %v", ended)
	}
}

// An older controller names no token when its meeting ends. One that was taken for dead may still have a
// meeting that lives elsewhere by now, if it is the same process: that must go on.
func TestEndByAFormerController(t *testing.T) {
	c := shared(t)
	for name, test := range map[string]struct {
		restarts, ends bool
	}{
		"that is back":       {false, false},
		"that has restarted": {true, true}, // and so has lost it: the other one says so
	} {
		t.Run(name, func(t *testing.T) {
			region := "former-" + strings.ReplaceAll(name, " ", "-")
			former := c.addRegion(t, region)
			at := c.follower(t)
			first := at.join(t, region, "m").Assignment
			former.SetHealth(darktowerv1.HealthStatus_UNHEALTHY)
			heartbeat(t, former)
			next := c.addMC(t, region+"-mc-2", region)
			second := at.join(t, region, "m").Assignment
			if second.McId != next.ID() || second.FencingToken <= first.FencingToken {
				t.Fatalf("joined again: %v, want it at %s", second, next.ID())
			}
			if test.restarts {
				if err := former.Restart(true); err != nil {
					t.Fatal(err)
				}
			}
			former.SetHealth(darktowerv1.HealthStatus_HEALTHY)
			heartbeat(t, former)

			if err := endByController(t, at, region, "m", 0); err != nil {
				t.Error(err)
			}
			if live := at.live(t, region, "m"); (live == nil) != test.ends {
				t.Errorf("after an end without a token: %v", live)
			}
			if test.ends {
				return
			}
			if err := endByController(t, at, region, "m", second.FencingToken); err != nil {
				t.Error(err)
			}
			if live := at.live(t, region, "m"); live != nil {
				t.Errorf("after an end with its token: %v", live)
			}
		})
	}
}
