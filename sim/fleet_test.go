package sim

import (
	"context"
	"testing"
	"time"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// TestFleetAndJoinersTogether drives the whole simulation against a cluster that does its duty,
// breaks a replica on the way, and then lets the cluster break its word.
func TestFleetAndJoinersTogether(t *testing.T) {
	cluster, replicas := startReplicas(t, 3)
	fleet, err := NewFleet(cluster, FleetConfig{
		MediaHandlers: 6, MeetingControllers: 4, Regions: []string{"eu", "us"}, Stagger: 10 * time.Millisecond,
		ReportInterval: 20 * time.Millisecond, ComprehensiveInterval: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	fleetDone := make(chan struct{})
	go func() { defer close(fleetDone); fleet.Run(ctx) }()
	defer func() { cancel(); <-fleetDone }()
	if err := fleet.Ready(ctx); err != nil {
		t.Fatal(err)
	}

	ledger := NewLedger()
	joiners := NewJoiners(cluster, ledger, JoinersConfig{Workers: 4, Regions: []string{"eu", "us"}, MaxLive: 5})
	joinCtx, stopJoining := context.WithCancel(ctx)
	joinersDone := make(chan struct{})
	go func() { defer close(joinersDone); joiners.Run(joinCtx) }()
	eventually(t, "50 joins", func() bool { return joiners.Stats().Joins >= 50 })
	replicas[1].broken.Store(true)
	joiners.MarkKill(time.Now())
	eventually(t, "joins after the kill, and ends", func() bool {
		stats := joiners.Stats()
		return len(stats.Gaps) == 1 && stats.Ends > 10 && stats.Errors["Unavailable"] > 0
	})
	stopJoining()
	<-joinersDone

	stats := joiners.Stats()
	if stats.Created == 0 || stats.Created == stats.Joins || stats.GaveUp != 0 {
		t.Errorf("some joins must be new, some not, none given up: %+v", stats)
	}
	if stats.P50 <= 0 || stats.P99 < stats.P50 || stats.Max < stats.P99 || stats.PerSecond <= 0 || stats.Gaps[0] <= 0 {
		t.Errorf("figures: %+v", stats)
	}
	if live := joiners.pools["eu"].size(); live > 5+4 { // a worker each may be above the bound
		t.Errorf("%d live meetings, bound 5", live)
	}
	judge := func(settle time.Duration) *Verdict {
		t.Helper()
		v, err := ledger.Verdict(ctx, cluster, fleet, settle)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// Ended meetings go from the controllers with their next comprehensive heartbeats.
	v := judge(5 * time.Second)
	if !v.OK() {
		t.Fatalf("verdict on a good cluster:\n%s", v)
	}
	if v.Live == 0 || v.Ended == 0 || v.Hosted == 0 || v.Nodes != 10 || int64(v.Joins) != stats.Joins {
		t.Errorf("nothing was judged:\n%s", v)
	}
	eventually(t, "media handlers report their meetings", func() bool {
		replicas[0].mu.Lock()
		defer replicas[0].mu.Unlock()
		return replicas[0].reports["mh-eu-001"].GetCurrentStreams() > 0
	})

	var forgotten Key
	for key := range ledger.meetings {
		forgotten = key
	}
	replicas[0].mu.Lock()
	delete(replicas[0].assignments, forgotten)
	replicas[0].mu.Unlock()
	if v := judge(0); v.Missing.Count == 0 {
		t.Errorf("a cluster that forgot %s passed:\n%s", forgotten, v)
	}
}

func TestFleetIsDeterministic(t *testing.T) {
	sizes := func(seed uint64) (handlers, controllers []uint32) {
		fleet, err := NewFleet(nil, FleetConfig{MediaHandlers: 30, MeetingControllers: 6, Regions: []string{"eu", "us"}, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		defer fleet.Close()
		for _, handler := range fleet.MediaHandlers() {
			handlers = append(handlers, handler.cfg.MaxStreams)
		}
		for _, controller := range fleet.MeetingControllers() {
			controllers = append(controllers, controller.cfg.MaxMeetings)
		}
		return handlers, controllers
	}
	handlers, controllers := sizes(1)
	again, controllersAgain := sizes(1)
	other, _ := sizes(2)
	if !equal(handlers, again) || !equal(controllers, controllersAgain) {
		t.Error("the same seed gives other sizes")
	}
	if equal(handlers, other) {
		t.Error("another seed gives the same sizes")
	}
}

func equal(a, b []uint32) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestFleetPlacesNodes(t *testing.T) {
	cfg := FleetConfig{Regions: []string{"eu-west", "us"}, Zones: []string{"a", "b"}}
	for i, want := range [][3]string{
		{"mh-eu-west-001", "eu-west", "a"}, {"mh-us-001", "us", "a"},
		{"mh-eu-west-002", "eu-west", "b"}, {"mh-us-002", "us", "b"}, {"mh-eu-west-003", "eu-west", "a"},
	} {
		if id, region, zone := cfg.place("mh", i); [3]string{id, region, zone} != want {
			t.Errorf("node %d: %s in %s/%s, want %v", i, id, region, zone, want)
		}
	}
	cfg.Instance = "two"
	if id, _, _ := cfg.place("mc", 0); id != "mc-two-eu-west-001" {
		t.Errorf("id with an instance: %s", id)
	}
}

func TestWatchAccusesOnlyWhenReportsWereInTime(t *testing.T) {
	unhealthy := darktowerv1.HealthStatus_UNHEALTHY
	for name, test := range map[string]struct {
		silence time.Duration // since the last report
		says    darktowerv1.HealthStatus
		listed  darktowerv1.HealthStatus
		want    int // of the two nodes
	}{
		"healthy":                       {listed: darktowerv1.HealthStatus_HEALTHY},
		"stale while reporting":         {silence: 20 * time.Second, listed: unhealthy, want: 2},
		"stale after silence":           {silence: 25 * time.Second, listed: unhealthy},
		"says itself that it is unwell": {says: unhealthy, listed: unhealthy},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, replicas := startReplicas(t, 1)
			clock := newTestClock()
			handler := NewMediaHandler(cluster, MediaHandlerConfig{ID: "mh-1", Region: "eu", Now: clock.Now})
			controller, _ := startController(t, cluster, MeetingControllerConfig{Now: clock.Now})
			fleet := &Fleet{cluster: cluster, handlers: []*MediaHandler{handler}, controllers: []*MeetingController{controller}}
			if test.says != darktowerv1.HealthStatus_PENDING {
				handler.SetHealth(test.says)
				controller.SetHealth(test.says)
			}
			if err := handler.Report(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := controller.FastHeartbeat(t.Context()); err != nil {
				t.Fatal(err)
			}
			clock.Advance(test.silence)
			replicas[0].handlers["mh-1"].Health = test.listed
			replicas[0].controllers[controller.ID()].Health = test.listed

			ledger := NewLedger()
			for range 2 { // the second look accuses nobody anew
				if err := ledger.Look(t.Context(), cluster, fleet); err != nil {
					t.Fatal(err)
				}
			}
			v := ledger.judge(nil, nil)
			if v.FalselyStale.Count != test.want || v.OK() != (test.want == 0) {
				t.Errorf("accused %d nodes, want %d:\n%s", v.FalselyStale.Count, test.want, v)
			}
		})
	}
}

func TestVerdictWaitsForOrphansToGo(t *testing.T) {
	cluster, replicas := startReplicas(t, 1)
	controller, conn := startController(t, cluster, MeetingControllerConfig{})
	fleet := &Fleet{cluster: cluster, controllers: []*MeetingController{controller}}
	mustAssign(t, conn, assignRequest(5)) // an orphan: the cluster knows nothing of it
	ledger := NewLedger()
	v, err := ledger.Verdict(t.Context(), cluster, fleet, 0)
	if err != nil || v.Zombies.Count != 1 {
		t.Fatalf("without settling: %v, %v", v, err)
	}
	replicas[0].token = 9 // the cluster has moved on since
	released := make(chan error, 1)
	go func() { released <- controller.ComprehensiveHeartbeat(t.Context()) }()
	v, err = ledger.Verdict(t.Context(), cluster, fleet, 5*time.Second)
	if err != nil || !v.OK() {
		t.Errorf("after settling: %v\n%v", err, v)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
}
