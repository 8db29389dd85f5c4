package sim

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	darktowerv0 "github.com/conclave-rtc/conclave/proto/darktower/v0"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const unspecified = darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED

var standup = Key{Meeting: "standup", Region: "eu"}

func startController(t *testing.T, cluster *Cluster, cfg MeetingControllerConfig) (*MeetingController, *grpc.ClientConn) {
	t.Helper()
	cfg.ID, cfg.Region = "mc-eu-001", "eu"
	controller, err := NewMeetingController(cluster, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controller.Stop)
	return controller, connectTo(t, controller)
}

func connectTo(t *testing.T, controller *MeetingController) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(controller.Endpoint(), "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func assignRequest(token uint64, mhs ...string) *darktowerv1.AssignMeetingWithMhRequest {
	request := &darktowerv1.AssignMeetingWithMhRequest{
		MeetingId: standup.Meeting, Region: standup.Region, FencingToken: token, RequestingGcId: "gc-1",
	}
	for _, mh := range mhs {
		request.MhAssignments = append(request.MhAssignments, &darktowerv1.MhAssignment{MhId: mh})
	}
	return request
}

func mustAssign(t *testing.T, conn *grpc.ClientConn, request *darktowerv1.AssignMeetingWithMhRequest) *darktowerv1.AssignMeetingWithMhResponse {
	t.Helper()
	response, err := darktowerv1.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func TestControllerServesBothPackagesAndJournals(t *testing.T) {
	clock := newTestClock()
	controller, conn := startController(t, nil, MeetingControllerConfig{Now: clock.Now})
	if !mustAssign(t, conn, assignRequest(5, "mh-1", "mh-2")).GetAccepted() {
		t.Fatal("first notification not accepted")
	}
	clock.Advance(time.Second)
	repeated, err := darktowerv0.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(t.Context(), &darktowerv0.AssignMeetingWithMhRequest{
		MeetingId: standup.Meeting, Region: standup.Region, FencingToken: 5,
	})
	if err != nil || !repeated.GetAccepted() {
		t.Fatalf("repeat under the older package: %v, %v", repeated, err)
	}
	if held := controller.Hosted()[standup]; held.Token != 5 || !slices.Equal(held.MHs, []string{"mh-1", "mh-2"}) {
		t.Errorf("a repeat changed what is hosted: %+v", held)
	}
	released, err := darktowerv0.NewMeetingControllerServiceClient(conn).ReleaseMeeting(t.Context(), &darktowerv0.ReleaseMeetingRequest{
		MeetingId: standup.Meeting, Region: standup.Region, FencingToken: 5, Reason: "test",
	})
	if err != nil || !released.GetReleased() {
		t.Fatalf("release: %v, %v", released, err)
	}

	events := controller.Events()
	if len(events) != 3 {
		t.Fatalf("journal has %d events, want 3: %+v", len(events), events)
	}
	first, second, third := events[0], events[1], events[2]
	if first.Kind != EventAssign || first.Outcome != OutcomeAccepted || first.Legacy || first.Token != 5 ||
		first.GC != "gc-1" || first.Meeting != "standup" || first.Region != "eu" || !slices.Equal(first.MHs, []string{"mh-1", "mh-2"}) {
		t.Errorf("first event: %+v", first)
	}
	if second.Outcome != OutcomeRepeated || !second.Legacy || second.At.Sub(first.At) != time.Second {
		t.Errorf("second event: %+v", second)
	}
	if third.Kind != EventRelease || third.Outcome != OutcomeReleased || third.Detail != "test" {
		t.Errorf("third event: %+v", third)
	}
	events[0].Token = 99
	if controller.Events()[0].Token != 5 {
		t.Error("Events does not return a copy")
	}
	if controller.Count(EventAssign, "") != 2 || controller.Count(EventAssign, OutcomeRepeated) != 1 {
		t.Error("counters do not match the journal")
	}
}

func TestControllerRefusesWhatItCannotTake(t *testing.T) {
	controller, conn := startController(t, nil, MeetingControllerConfig{MaxMeetings: 1})
	mustAssign(t, conn, assignRequest(5))
	other := assignRequest(6)
	other.MeetingId = "retro"
	expect := func(request *darktowerv1.AssignMeetingWithMhRequest, accepted bool, reason darktowerv1.RejectionReason) {
		t.Helper()
		if answer := mustAssign(t, conn, request); answer.GetAccepted() != accepted || answer.GetRejectionReason() != reason {
			t.Errorf("token %d of %s: %v, want accepted %t and %s", request.GetFencingToken(), request.GetMeetingId(), answer, accepted, reason)
		}
	}
	expect(other, false, darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY)
	expect(assignRequest(7), true, unspecified) // no further room needed
	controller.SetHealth(darktowerv1.HealthStatus_DRAINING)
	other.FencingToken = 8
	expect(other, false, darktowerv1.RejectionReason_REJECTION_REASON_DRAINING)
	expect(assignRequest(7), true, unspecified) // it keeps what it has
	controller.SetHealth(darktowerv1.HealthStatus_UNHEALTHY)
	other.FencingToken = 9
	expect(other, false, darktowerv1.RejectionReason_REJECTION_REASON_UNHEALTHY)

	_, err := darktowerv1.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(t.Context(), assignRequest(0))
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("without a token: %v", err)
	}
}

func TestControllerWantsItsBearerToken(t *testing.T) {
	controller, conn := startController(t, nil, MeetingControllerConfig{BearerToken: "secret"})
	client := darktowerv1.NewMeetingControllerServiceClient(conn)
	for _, given := range []string{"", "Bearer wrong", "secret"} {
		ctx := t.Context()
		if given != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", given)
		}
		if _, err := client.AssignMeetingWithMh(ctx, assignRequest(5)); status.Code(err) != codes.Unauthenticated {
			t.Errorf("authorization %q: %v, want UNAUTHENTICATED", given, err)
		}
	}
	if len(controller.Hosted()) != 0 {
		t.Error("it took a meeting from a stranger")
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer secret")
	if answer, err := client.AssignMeetingWithMh(ctx, assignRequest(5)); err != nil || !answer.GetAccepted() {
		t.Errorf("with the right token: %v, %v", answer, err)
	}
}

func TestControllerRestart(t *testing.T) {
	for _, forget := range []bool{false, true} {
		controller, conn := startController(t, nil, MeetingControllerConfig{})
		mustAssign(t, conn, assignRequest(5))
		before := controller.Endpoint()
		if err := controller.Restart(forget); err != nil {
			t.Fatal(err)
		}
		if controller.Endpoint() != before {
			t.Errorf("endpoint changed from %s to %s", before, controller.Endpoint())
		}
		if _, hosts := controller.Hosted()[standup]; hosts == forget {
			t.Errorf("forget=%t: hosts the meeting: %t", forget, hosts)
		}
		// A process that forgot cannot know lower tokens; one that remembers must.
		if accepted := mustAssign(t, connectTo(t, controller), assignRequest(4)).GetAccepted(); accepted != forget {
			t.Errorf("forget=%t: lower token accepted: %t", forget, accepted)
		}
	}
}

func TestControllerRegistersAgainWhenUnknown(t *testing.T) {
	cluster, replicas := startReplicas(t, 1)
	for _, legacy := range []bool{false, true} {
		controller, conn := startController(t, cluster, MeetingControllerConfig{Legacy: legacy})
		mustAssign(t, conn, assignRequest(5))
		if err := controller.FastHeartbeat(t.Context()); err != nil { // registers first
			t.Fatal(err)
		}
		if !controller.Undisturbed() {
			t.Error("not undisturbed after one registration and one heartbeat")
		}
		replicas[0].mu.Lock()
		clear(replicas[0].controllers)
		replicas[0].mu.Unlock()
		if err := controller.ComprehensiveHeartbeat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := controller.Count(EventRegister, OutcomeAcknowledged); n != 2 {
			t.Errorf("legacy=%t: registered %d times, want 2", legacy, n)
		}
		if controller.Undisturbed() {
			t.Error("undisturbed although it registered again")
		}
		hosted := replicas[0].hosted[controller.ID()]
		if len(hosted) != 1 || hosted[0].GetFencingToken() != 5 || hosted[0].GetMeetingId() != "standup" || hosted[0].GetRegion() != "eu" {
			t.Errorf("listed as hosted: %v", hosted)
		}
		if usedLegacy := replicas[0].legacyCalls > 0; usedLegacy != legacy {
			t.Errorf("legacy=%t: called under the older package: %t", legacy, usedLegacy)
		}
	}
}

func TestControllerDropsWhatAHeartbeatReleases(t *testing.T) {
	for _, test := range []struct {
		named uint64
		hosts bool
	}{{named: 4, hosts: true}, {named: 5, hosts: false}, {named: 6, hosts: false}} {
		cluster, replicas := startReplicas(t, 1)
		controller, conn := startController(t, cluster, MeetingControllerConfig{})
		mustAssign(t, conn, assignRequest(5))
		replicas[0].release = []*darktowerv1.HostedMeeting{{MeetingId: standup.Meeting, Region: standup.Region, FencingToken: test.named}}
		if err := controller.ComprehensiveHeartbeat(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, hosts := controller.Hosted()[standup]; hosts != test.hosts {
			t.Errorf("release of token %d: hosts 5: %t, want %t", test.named, hosts, test.hosts)
		}
		if controller.Count(EventDrop, "") != 1 {
			t.Error("the drop is not in the journal")
		}
	}
}

func TestControllerClosesItsDoorsWhenUnheard(t *testing.T) {
	cluster, _ := startReplicas(t, 1)
	clock := newTestClock()
	controller, _ := startController(t, cluster, MeetingControllerConfig{Now: clock.Now, StaleAfter: 30 * time.Second})
	expect := func(when string, want bool) {
		t.Helper()
		if got := controller.AcceptsParticipants(); got != want {
			t.Errorf("%s: accepts participants: %t, want %t", when, got, want)
		}
	}
	expect("before registering", false)
	if err := controller.FastHeartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	clock.Advance(29 * time.Second)
	expect("after 29 s", true)
	clock.Advance(time.Second)
	expect("after 30 s", false)
	if err := controller.FastHeartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("after another heartbeat", true)
	if controller.Undisturbed() {
		t.Error("undisturbed in spite of a gap of 30 s")
	}
}

func TestControllerEndsItsMeeting(t *testing.T) {
	cluster, replicas := startReplicas(t, 1)
	controller, conn := startController(t, cluster, MeetingControllerConfig{})
	if err := controller.FastHeartbeat(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := replicas[0].AssignMeeting(t.Context(), joinRequest(standup)); err != nil {
		t.Fatal(err)
	}
	held := controller.Hosted()[standup]
	token, err := controller.EndMeeting(t.Context(), standup)
	if err != nil || token != held.Token {
		t.Fatalf("ended token %d, %v; want %d", token, err, held.Token)
	}
	if replicas[0].live(standup) != nil || len(controller.Hosted()) != 0 {
		t.Error("the meeting lives on")
	}
	if mustAssign(t, conn, assignRequest(token)).GetAccepted() {
		t.Error("a late repeat brought an ended meeting back")
	}
	if _, err := controller.EndMeeting(t.Context(), standup); err == nil {
		t.Error("ended a meeting that it does not host")
	}
}

func TestControllerRunComesBackAfterARestart(t *testing.T) {
	cluster, replicas := startReplicas(t, 2)
	replicas[0].broken.Store(true) // the other one serves
	controller, conn := startController(t, cluster, MeetingControllerConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); controller.Run(ctx) }()
	eventually(t, "both kinds of heartbeat", func() bool {
		return controller.Count(EventFast, OutcomeAcknowledged) > 0 && controller.Count(EventComprehensive, OutcomeAcknowledged) > 1
	})
	mustAssign(t, conn, assignRequest(5))
	controller.Stop()
	if err := controller.Restart(false); err != nil {
		t.Fatal(err)
	}
	eventually(t, "registered again and listed the meeting", func() bool {
		replicas[0].mu.Lock()
		defer replicas[0].mu.Unlock()
		return controller.Count(EventRegister, OutcomeAcknowledged) == 2 && len(replicas[0].hosted[controller.ID()]) == 1
	})
	cancel()
	<-done
}
