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

func sampleHandlers() []*conclavev1.MediaHandler {
	return []*conclavev1.MediaHandler{
		{
			HandlerId: "mh-1", Region: "eu", Zone: "eu-1a", Health: darktowerv1.HealthStatus_HEALTHY,
			WebtransportEndpoint: "https://mh-1:4433", GrpcEndpoint: "grpc://mh-1:50051",
			MaxStreams: 500, CurrentStreams: 120, CpuUsagePercent: 41.6, Load: 0.416, InFlight: 3,
			RegisteredAt: before(2 * time.Hour), LastReportAt: before(3 * time.Second),
		},
		{HandlerId: "mh-2", Region: "us", Health: darktowerv1.HealthStatus_PENDING, MaxStreams: 10, Load: 1.2, RegisteredAt: before(0)},
	}
}

func TestMediaHandlerTable(t *testing.T) {
	t.Parallel()
	checkTable(t, `
ID    REGION  ZONE   HEALTH   LOAD  STREAMS  CPU  MEMORY  BANDWIDTH  IN FLIGHT  LAST REPORT
mh-1  eu      eu-1a  healthy  42%   120/500  42%  -       -          3          3s ago
mh-2  us      -      pending  120%  0/10     -    -       -          0          never
`, func(table *tabwriter.Writer) { mediaHandlerTable(table, sampleHandlers(), now) })
}

func TestMediaHandlerDetails(t *testing.T) {
	t.Parallel()
	checkTable(t, `
id:            mh-1
region:        eu
zone:          eu-1a
health:        healthy
load:          42%
streams:       120/500
cpu:           42%
memory:        -
bandwidth:     -
in flight:     3
webtransport:  https://mh-1:4433
grpc:          grpc://mh-1:50051
registered:    2026-11-23T10:00:00Z (2h ago)
last report:   2026-11-23T11:59:57Z (3s ago)
`, func(table *tabwriter.Writer) { mediaHandlerDetails(table, sampleHandlers()[0], now) })
}

func TestMediaHandlerListJoinsAllPages(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{handlers: []*conclavev1.MediaHandler{
		{HandlerId: "mh-1"}, {HandlerId: "mh-2"}, {HandlerId: "mh-3"}, {HandlerId: "mh-4"}, {HandlerId: "mh-5"},
	}, maxPage: 2}).start(t)
	got := execute(t, "mh", "list", "--region", "eu", "--consistency", "stale", "--target", fake.address, "-o", "json")
	if got.code != exitDone {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	var list conclavev1.ListMediaHandlersResponse
	if err := protojson.Unmarshal([]byte(got.stdout), &list); err != nil {
		t.Fatal(err)
	}
	want := &conclavev1.ListMediaHandlersResponse{MediaHandlers: fake.handlers, Index: 101}
	if !proto.Equal(&list, want) {
		t.Errorf("got %v, want %v", &list, want)
	}
	asked := fake.asked()
	if len(asked) != 3 {
		t.Fatalf("asked for %d pages, want 3", len(asked))
	}
	for _, request := range asked {
		request := request.(*conclavev1.ListMediaHandlersRequest)
		if request.GetRegion() != "eu" || request.GetConsistency() != conclavev1.Consistency_STALE {
			t.Errorf("asked %v, want region eu and a stale read on every page", request)
		}
	}
}

func TestMediaHandlerShow(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{handlers: sampleHandlers()}).start(t)
	got := execute(t, "mh", "show", "mh-1", "--target", fake.address)
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "id:            mh-1\n") {
		t.Errorf("got %+v", got)
	}
	want := &conclavev1.GetMediaHandlerRequest{HandlerId: "mh-1", Consistency: conclavev1.Consistency_LINEARIZABLE}
	if asked := fake.asked()[0]; !proto.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
	got = execute(t, "mh", "show", "mh-1", "--target", fake.address, "-o", "json")
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "{\n  \"media_handler\": {\n    \"handler_id\": \"mh-1\"") {
		t.Errorf("got %+v", got)
	}
}
