package replica

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// Every refusal looks the same, whichever replica is asked. (NO_LEADER is tested where there is
// no quorum.)
func TestRefusals(t *testing.T) {
	c := shared(t)
	c.addMH(t, mh{id: "refusals-lonely", region: "refusals-no-mc"})
	c.addMH(t, mh{id: "refusals-full", region: "refusals-full", max: 10, used: 10})
	c.addMC(t, "refusals-full-mc", "refusals-full")
	c.addRegion(t, "refusals")
	tests := map[string]struct {
		want refusal
		call func(*member) error
	}{
		"a field is missing": {invalidField, func(m *member) error {
			_, err := m.tryJoin(t.Context(), "refusals", "")
			return err
		}},
		"a load report of nobody": {notRegistered, func(m *member) error {
			_, err := m.handlers().SendLoadReport(t.Context(), &darktowerv1.SendLoadReportRequest{HandlerId: "refusals-nobody"})
			return err
		}},
		"a fast heartbeat of nobody": {notRegistered, func(m *member) error {
			_, err := m.controllers().FastHeartbeat(t.Context(), &darktowerv1.FastHeartbeatRequest{ControllerId: "refusals-nobody"})
			return err
		}},
		"a comprehensive heartbeat of nobody": {notRegistered, func(m *member) error {
			_, err := m.controllers().ComprehensiveHeartbeat(t.Context(), &darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: "refusals-nobody"})
			return err
		}},
		"a heartbeat of a media handler": {notRegistered, func(m *member) error {
			_, err := m.controllers().FastHeartbeat(t.Context(), &darktowerv1.FastHeartbeatRequest{ControllerId: "refusals-mh-1"})
			return err
		}},
		"a question about nobody": {notRegistered, func(m *member) error {
			_, err := m.registryOf().GetMediaHandler(t.Context(), &conclavev1.GetMediaHandlerRequest{HandlerId: "refusals-nobody"})
			return err
		}},
		"a question about no controller": {notRegistered, func(m *member) error {
			_, err := m.registryOf().GetMeetingController(t.Context(), &conclavev1.GetMeetingControllerRequest{Id: "refusals-nobody"})
			return err
		}},
		"reading no meeting": {noAssignment, func(m *member) error {
			_, err := m.gateway().GetAssignment(t.Context(), &conclavev1.GetAssignmentRequest{MeetingId: "none", Region: "refusals"})
			return err
		}},
		"ending no meeting": {noAssignment, func(m *member) error {
			_, err := m.gateway().EndMeeting(t.Context(), &conclavev1.EndMeetingRequest{MeetingId: "none", Region: "refusals"})
			return err
		}},
		"ending no meeting, with a token": {noAssignment, func(m *member) error {
			_, err := m.gateway().EndMeeting(t.Context(), &conclavev1.EndMeetingRequest{MeetingId: "none", Region: "refusals", FencingToken: 7})
			return err
		}},
		"a controller ending no meeting": {noAssignment, func(m *member) error {
			_, err := m.controllers().NotifyMeetingEnded(t.Context(), &darktowerv1.NotifyMeetingEndedRequest{MeetingId: "none", Region: "refusals"})
			return err
		}},
		"no meeting controller": {noControllers, func(m *member) error {
			_, err := m.tryJoin(t.Context(), "refusals-no-mc", "m")
			return err
		}},
		"no media handler": {noHandlers, func(m *member) error {
			_, err := m.tryJoin(t.Context(), "refusals-nowhere", "m")
			return err
		}},
		"all media handlers full": {noHandlers, func(m *member) error {
			_, err := m.tryJoin(t.Context(), "refusals-full", "m")
			return err
		}},
		"ending with a stale token": {fenced, func(m *member) error {
			token := m.join(t, "refusals", "stale").Assignment.FencingToken
			_, err := m.gateway().EndMeeting(t.Context(), &conclavev1.EndMeetingRequest{MeetingId: "stale", Region: "refusals", FencingToken: token - 1})
			return err
		}},
		"a controller ending with a stale token": {fenced, func(m *member) error {
			token := m.join(t, "refusals", "stale").Assignment.FencingToken
			_, err := m.controllers().NotifyMeetingEnded(t.Context(), &darktowerv1.NotifyMeetingEndedRequest{MeetingId: "stale", Region: "refusals", FencingToken: token - 1})
			return err
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.want.check(test.call(c.leader(t))); err != nil {
				t.Errorf("at the leader: %v", err)
			}
			if err := test.want.check(test.call(c.follower(t))); err != nil {
				t.Errorf("at a follower: %v", err)
			}
		})
	}
}

// A client is told which field it must change.
func TestInvalidFieldIsNamed(t *testing.T) {
	c := shared(t)
	_, err := c.follower(t).handlers().RegisterMH(t.Context(), &darktowerv1.RegisterMHRequest{HandlerId: "named", Region: "no such thing"})
	invalidField.must(t, err)
	if field := fieldOf(err); field != "region" {
		t.Errorf("the field named is %q, want region: %v", field, status.Convert(err).Message())
	}
}

// What the controllers answered decides what a join is told: the last refusal, or that none
// answered.
func TestJoinsThatNoControllerTakes(t *testing.T) {
	c := shared(t)
	reject := func(r darktowerv1.RejectionReason) sim.Script { return sim.Always(sim.Reject(r)) }
	tests := map[string]struct {
		script sim.Script
		want   refusal
	}{
		"full":      {reject(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY), controllersFull},
		"draining":  {reject(darktowerv1.RejectionReason_REJECTION_REASON_DRAINING), controllersDraining},
		"unhealthy": {reject(darktowerv1.RejectionReason_REJECTION_REASON_UNHEALTHY), controllersUnhealthy},
		"unnamed":   {reject(darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED), controllersUnhealthy},
		"unreached": {nil, controllersUnreached},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			region := "untaken-" + name
			c.addMH(t, mh{id: region + "-mh", region: region})
			var mcs []*sim.MeetingController
			for _, n := range []string{"1", "2", "3", "4"} {
				mcs = append(mcs, c.addMC(t, region+"-mc-"+n, region, scripted(test.script)))
			}
			for i, m := range []*member{c.leader(t), c.follower(t)} {
				if test.script == nil {
					for _, mc := range mcs {
						if err := mc.Restart(false); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, mc := range mcs { // each refusal sets a controller aside until its next heartbeat
					heartbeat(t, mc)
				}
				if test.script == nil {
					for _, mc := range mcs {
						mc.Stop()
					}
				}
				_, err := m.tryJoin(t.Context(), region, "m")
				test.want.must(t, err)
				if asked := askedOf(mcs); test.script != nil && asked != 3*(i+1) {
					t.Errorf("%d controllers were asked after %d joins, want three each", asked, i+1)
				}
			}
			if live := c.leader(t).live(t, region, "m"); live != nil {
				t.Errorf("nobody took the meeting, but it is assigned: %v", live)
			}
		})
	}
}

// askedOf counts the notifications of some controllers.
func askedOf(mcs []*sim.MeetingController) int {
	asked := 0
	for _, mc := range mcs {
		asked += mc.Count(sim.EventAssign, "")
	}
	return asked
}

// A name that no resolver knows is a controller that cannot be reached, not an internal error.
func TestControllerWhoseNameIsUnknown(t *testing.T) {
	c := shared(t)
	c.addMH(t, mh{id: "unknown-name-mh", region: "unknown-name"})
	c.registerMC(t, "unknown-name-mc", "unknown-name", "http://"+net.JoinHostPort("no-such-host.invalid", "1"))
	_, err := c.follower(t).tryJoin(t.Context(), "unknown-name", "m")
	controllersUnreached.must(t, err)
}

// registerMC registers a meeting controller that is only an address, and reports for it.
func (c *testCluster) registerMC(t *testing.T, id, region, endpoint string) {
	t.Helper()
	mcs := c.up()[0].controllers()
	if _, err := mcs.RegisterMC(t.Context(), &darktowerv1.RegisterMCRequest{
		Id: id, Region: region, GrpcEndpoint: endpoint, WebtransportEndpoint: "https://" + id + ".test.invalid", MaxMeetings: 100,
	}); err != nil {
		t.Fatal(err)
	}
	c.reportMC(t.Context(), t, id)
}

func (c *testCluster) reportMC(ctx context.Context, t *testing.T, id string) {
	t.Helper()
	_, err := c.up()[0].controllers().FastHeartbeat(ctx, &darktowerv1.FastHeartbeatRequest{
		ControllerId: id, Health: darktowerv1.HealthStatus_HEALTHY,
	})
	if err != nil {
		t.Fatal(err)
	}
}
