package replica

import (
	"testing"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

func TestMediaHandlerRegistersAndReports(t *testing.T) {
	c := shared(t)
	at, elsewhere := c.follower(t), c.leader(t)
	h := mh{id: "lifecycle-mh", region: "lifecycle", zone: "a", max: 100, used: 25, bandwidth: 40}
	answer, err := at.handlers().RegisterMH(t.Context(), h.registration())
	if err != nil || !answer.Accepted || answer.LoadReportIntervalMs != 10_000 {
		t.Fatalf("registering: %v, %v, want the default interval of 10 s", answer, err)
	}
	got := elsewhere.handler(t, h.id)
	if got.Health != darktowerv1.HealthStatus_PENDING || got.RegisteredAt == nil || got.LastReportAt != nil {
		t.Errorf("before its first report: %v", got)
	}
	if _, err := at.tryJoin(t.Context(), h.region, "m"); noHandlers.check(err) != nil {
		t.Errorf("a pending media handler was chosen: %v", err)
	}

	h.report(t, at)
	got = elsewhere.handler(t, h.id)
	if got.Health != darktowerv1.HealthStatus_HEALTHY || got.CurrentStreams != 25 || got.MaxStreams != 100 ||
		got.BandwidthUsagePercent != 40 || got.Load != float64(float32(40))/100 || got.Zone != "a" || got.LastReportAt == nil {
		t.Errorf("after its report: %v", got)
	}
	before := got.RegisteredAt.AsTime()

	h.zone, h.max = "b", 200
	h.register(t, at)
	got = elsewhere.handler(t, h.id)
	if got.Health != darktowerv1.HealthStatus_PENDING || got.CurrentStreams != 0 || got.BandwidthUsagePercent != 0 ||
		got.Load != 0 || got.LastReportAt != nil || got.Zone != "b" || got.MaxStreams != 200 || got.RegisteredAt.AsTime().Before(before) {
		t.Errorf("registered again, it must begin anew: %v", got)
	}
}

func TestMeetingControllerRegistersAndReports(t *testing.T) {
	c := shared(t)
	at, elsewhere := c.follower(t), c.leader(t)
	registration := &darktowerv1.RegisterMCRequest{Id: "lifecycle-mc", Region: "lifecycle-mc", Zone: "a",
		GrpcEndpoint: "http://127.0.0.1:1", WebtransportEndpoint: "https://h", MaxMeetings: 10, MaxParticipants: 50}
	answer, err := at.controllers().RegisterMC(t.Context(), registration)
	if err != nil || !answer.Accepted || answer.FastHeartbeatIntervalMs != 10_000 || answer.ComprehensiveHeartbeatIntervalMs != 30_000 {
		t.Fatalf("registering: %v, %v, want the default intervals of 10 s and 30 s", answer, err)
	}
	if got := elsewhere.controller(t, "lifecycle-mc"); got.Health != darktowerv1.HealthStatus_PENDING || got.LastHeartbeatAt != nil {
		t.Errorf("before its first heartbeat: %v", got)
	}

	beat, err := at.controllers().FastHeartbeat(t.Context(), &darktowerv1.FastHeartbeatRequest{ControllerId: "lifecycle-mc",
		Health:   darktowerv1.HealthStatus_DEGRADED,
		Capacity: &darktowerv1.ControllerCapacity{MaxMeetings: 20, CurrentMeetings: 5, MaxParticipants: 100, CurrentParticipants: 7}})
	if err != nil || !beat.Acknowledged || beat.Timestamp == 0 {
		t.Fatalf("fast heartbeat: %v, %v", beat, err)
	}
	got := elsewhere.controller(t, "lifecycle-mc")
	if got.Health != darktowerv1.HealthStatus_DEGRADED || got.Load != 0.25 || got.Capacity.MaxMeetings != 20 ||
		got.Capacity.CurrentParticipants != 7 || got.LastHeartbeatAt == nil {
		t.Errorf("after its heartbeat: %v", got)
	}

	// A heartbeat without capacity leaves what is known.
	full, err := at.controllers().ComprehensiveHeartbeat(t.Context(), &darktowerv1.ComprehensiveHeartbeatRequest{
		ControllerId: "lifecycle-mc", Health: darktowerv1.HealthStatus_HEALTHY})
	if err != nil || !full.Acknowledged || len(full.Release) != 0 {
		t.Fatalf("comprehensive heartbeat: %v, %v", full, err)
	}
	if got := elsewhere.controller(t, "lifecycle-mc"); got.Capacity.CurrentMeetings != 5 || got.Health != darktowerv1.HealthStatus_HEALTHY {
		t.Errorf("after a heartbeat without capacity: %v", got)
	}

	if _, err := at.controllers().RegisterMC(t.Context(), registration); err != nil {
		t.Fatal(err)
	}
	if got := elsewhere.controller(t, "lifecycle-mc"); got.Health != darktowerv1.HealthStatus_PENDING ||
		got.Capacity.CurrentMeetings != 0 || got.Capacity.MaxMeetings != 10 || got.LastHeartbeatAt != nil {
		t.Errorf("registered again, it must begin anew: %v", got)
	}
}

// Only healthy and degraded media handlers with room are chosen.
func TestWhichMediaHandlersAreChosen(t *testing.T) {
	c := shared(t)
	tests := map[string]struct {
		handler mh
		chosen  bool
	}{
		"healthy":         {mh{max: 10, used: 9}, true},
		"degraded":        {mh{max: 10, health: darktowerv1.HealthStatus_DEGRADED}, true},
		"draining":        {mh{max: 10, health: darktowerv1.HealthStatus_DRAINING}, false},
		"unhealthy":       {mh{max: 10, health: darktowerv1.HealthStatus_UNHEALTHY}, false},
		"full":            {mh{max: 10, used: 10}, false},
		"overfull":        {mh{max: 10, used: 11}, false},
		"one-place-large": {mh{max: 4_294_967_295, used: 4_294_967_294}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			region := "chosen-" + name
			test.handler.id, test.handler.region = region+"-mh", region
			c.addMH(t, test.handler)
			c.addMC(t, region+"-mc", region)
			answer, err := c.follower(t).tryJoin(t.Context(), region, "m")
			if !test.chosen {
				noHandlers.must(t, err)
				return
			}
			if err != nil || len(answer.Assignment.MhAssignments) != 1 {
				t.Errorf("got %v, %v, want the only media handler and no backup", answer, err)
			}
		})
	}
}

// The same rules choose meeting controllers.
func TestWhichMeetingControllersAreChosen(t *testing.T) {
	c := shared(t)
	tests := map[string]struct {
		health   darktowerv1.HealthStatus
		meetings uint32
		chosen   bool
	}{
		"healthy":   {darktowerv1.HealthStatus_HEALTHY, 9, true},
		"degraded":  {darktowerv1.HealthStatus_DEGRADED, 0, true},
		"draining":  {darktowerv1.HealthStatus_DRAINING, 0, false},
		"unhealthy": {darktowerv1.HealthStatus_UNHEALTHY, 0, false},
		"pending":   {darktowerv1.HealthStatus_PENDING, 0, false},
		"full":      {darktowerv1.HealthStatus_HEALTHY, 10, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			region := "chosen-mc-" + name
			c.addMH(t, mh{id: region + "-mh", region: region})
			mc := c.addMC(t, region+"-mc", region)
			_, err := c.leader(t).controllers().FastHeartbeat(t.Context(), &darktowerv1.FastHeartbeatRequest{ControllerId: mc.ID(),
				Health: test.health, Capacity: &darktowerv1.ControllerCapacity{MaxMeetings: 10, CurrentMeetings: test.meetings}})
			if err != nil {
				t.Fatal(err)
			}
			answer, err := c.follower(t).tryJoin(t.Context(), region, "m")
			if !test.chosen {
				noControllers.must(t, err)
				if asked := mc.Count(sim.EventAssign, ""); asked != 0 {
					t.Errorf("it was asked %d times all the same", asked)
				}
				return
			}
			if err != nil || !hosts(mc, answer.Assignment) {
				t.Errorf("got %v, %v, want it hosted by the only controller", answer, err)
			}
		})
	}
}

// The backup is another node, in another zone as long as there is one.
func TestBackupIsInAnotherZone(t *testing.T) {
	c := shared(t)
	const region = "zones"
	zone := map[string]string{"zones-1": "a", "zones-2": "a", "zones-3": "a", "zones-4": "b"}
	for id, z := range zone {
		c.addMH(t, mh{id: id, region: region, zone: z, max: 1000})
	}
	c.addMC(t, "zones-mc", region)
	for i := range 20 {
		ids := handlerIDs(c.members[i%3].join(t, region, "m-"+string(rune('a'+i))).Assignment)
		if len(ids) != 2 || zone[ids[0]] == zone[ids[1]] {
			t.Errorf("meeting %d has %v, want two zones", i, ids)
		}
	}
	c.addMH(t, mh{id: "one-zone-1", region: "one-zone", zone: "a", max: 100})
	c.addMH(t, mh{id: "one-zone-2", region: "one-zone", zone: "a", max: 100})
	c.addMC(t, "one-zone-mc", "one-zone")
	answer := c.leader(t).join(t, "one-zone", "m")
	if ids := handlerIDs(answer.Assignment); len(ids) != 2 || ids[0] == ids[1] {
		t.Errorf("with one zone only: %v, want both nodes", ids)
	}
	roles := answer.Assignment.MhAssignments
	if roles[0].Role != darktowerv1.MhRole_MH_ROLE_PRIMARY || roles[1].Role != darktowerv1.MhRole_MH_ROLE_BACKUP {
		t.Errorf("roles %v, want primary and backup", roles)
	}
}
