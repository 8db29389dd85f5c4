package main

import (
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

func sampleControllers() []*conclavev1.MeetingController {
	return []*conclavev1.MeetingController{
		{
			Id: "mc-1", Region: "eu", Zone: "eu-1a", Health: darktowerv1.HealthStatus_DRAINING,
			GrpcEndpoint: "http://mc-1:50051", WebtransportEndpoint: "https://mc-1:4433", Load: 0.5, InFlight: 1,
			Capacity:     &darktowerv1.ControllerCapacity{MaxMeetings: 100, CurrentMeetings: 50, MaxParticipants: 900, CurrentParticipants: 210},
			RegisteredAt: before(time.Hour), LastHeartbeatAt: before(9 * time.Second),
		},
		{Id: "mc-2", Region: "us", RegisteredAt: before(0)},
	}
}

func TestMeetingControllerTable(t *testing.T) {
	t.Parallel()
	checkTable(t, `
ID    REGION  ZONE   HEALTH    LOAD  MEETINGS  PARTICIPANTS  IN FLIGHT  LAST HEARTBEAT
mc-1  eu      eu-1a  draining  50%   50/100    210/900       1          9s ago
mc-2  us      -      pending   0%    0/0       0/0           0          never
`, func(table *tabwriter.Writer) { meetingControllerTable(table, sampleControllers(), now) })
}

func TestMeetingControllerDetails(t *testing.T) {
	t.Parallel()
	checkTable(t, `
id:              mc-1
region:          eu
zone:            eu-1a
health:          draining
load:            50%
meetings:        50/100
participants:    210/900
in flight:       1
webtransport:    https://mc-1:4433
grpc:            http://mc-1:50051
registered:      2026-11-23T11:00:00Z (1h ago)
last heartbeat:  2026-11-23T11:59:51Z (9s ago)
`, func(table *tabwriter.Writer) { meetingControllerDetails(table, sampleControllers()[0], now) })
}

func TestMeetingControllerListJoinsAllPages(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{controllers: []*conclavev1.MeetingController{{Id: "mc-1"}, {Id: "mc-2"}, {Id: "mc-3"}}, maxPage: 2}).start(t)
	got := execute(t, "mc", "list", "--region", "eu", "--consistency", "stale", "--target", fake.address, "-o", "json")
	if got.code != exitDone {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	var list conclavev1.ListMeetingControllersResponse
	if err := protojson.Unmarshal([]byte(got.stdout), &list); err != nil {
		t.Fatal(err)
	}
	want := &conclavev1.ListMeetingControllersResponse{MeetingControllers: fake.controllers, Index: 101}
	if !proto.Equal(&list, want) {
		t.Errorf("got %v, want %v", &list, want)
	}
	for _, request := range fake.asked() {
		request := request.(*conclavev1.ListMeetingControllersRequest)
		if request.GetRegion() != "eu" || request.GetConsistency() != conclavev1.Consistency_STALE {
			t.Errorf("asked %v, want region eu and a stale read on every page", request)
		}
	}
}

func TestMeetingControllerShow(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{controllers: sampleControllers()}).start(t)
	got := execute(t, "mc", "show", "mc-1", "--consistency", "stale", "--target", fake.address)
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "id:              mc-1\n") {
		t.Errorf("got %+v", got)
	}
	want := &conclavev1.GetMeetingControllerRequest{Id: "mc-1", Consistency: conclavev1.Consistency_STALE}
	if asked := fake.asked()[0]; !proto.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}
