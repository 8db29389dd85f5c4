package main

import (
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

func sampleAssignments() []*conclavev1.Assignment {
	return []*conclavev1.Assignment{
		{
			MeetingId: "standup", Region: "eu", FencingToken: 4294967297, McId: "mc-1",
			McGrpcEndpoint: "http://mc-1:50051", McWebtransportEndpoint: "https://mc-1:4433",
			MhAssignments: []*darktowerv1.MhAssignment{
				{MhId: "mh-1", Role: darktowerv1.MhRole_MH_ROLE_PRIMARY, WebtransportEndpoint: "https://mh-1:4433"},
				{MhId: "mh-2", Role: darktowerv1.MhRole_MH_ROLE_BACKUP, WebtransportEndpoint: "https://mh-2:4433"},
			},
			AssignedByGcId: "gc-1", AssignedAt: before(5 * time.Minute),
		},
		{
			MeetingId: "retro", Region: "eu", FencingToken: 7, McId: "mc-2", AssignedAt: before(3 * time.Hour),
			EndedAt: before(time.Hour), EndReason: "moved\tby hand",
		},
	}
}

func TestAssignmentTable(t *testing.T) {
	t.Parallel()
	checkTable(t, `
MEETING  REGION  MC    MHS        TOKEN       ASSIGNED  STATE
standup  eu      mc-1  mh-1,mh-2  4294967297  5m ago    live
retro    eu      mc-2  -          7           3h ago    ended 1h ago: moved by hand
`, func(table *tabwriter.Writer) { assignmentTable(table, sampleAssignments(), now) })
}

func TestAssignmentDetails(t *testing.T) {
	t.Parallel()
	checkTable(t, `
meeting:          standup
region:           eu
token:            4294967297
mc:               mc-1
mc webtransport:  https://mc-1:4433
mc grpc:          http://mc-1:50051
mh primary:       mh-1 at https://mh-1:4433
mh backup:        mh-2 at https://mh-2:4433
assigned by:      gc-1
assigned:         2026-11-23T11:55:00Z (5m ago)
`, func(table *tabwriter.Writer) { assignmentDetails(table, sampleAssignments()[0], now) })
}

func TestMeetingRequestsAndAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args    string
		replica fakeReplica
		want    proto.Message
		answer  string
	}{
		{"assign standup", fakeReplica{created: true},
			&conclavev1.AssignMeetingRequest{MeetingId: "standup"}, "meeting \"standup\" is assigned now\n"},
		{"assign standup --region eu --preferred-zone eu-1a", fakeReplica{},
			&conclavev1.AssignMeetingRequest{MeetingId: "standup", Region: "eu", PreferredZone: "eu-1a"}, "meeting \"standup\" was assigned already\n"},
		{"show standup --region eu", fakeReplica{},
			&conclavev1.GetAssignmentRequest{MeetingId: "standup", Region: "eu"}, "meeting:          standup\n"},
		{"show standup --consistency stale", fakeReplica{},
			&conclavev1.GetAssignmentRequest{MeetingId: "standup", Consistency: conclavev1.Consistency_STALE}, "meeting:          standup\n"},
		{"list", fakeReplica{},
			&conclavev1.ListAssignmentsRequest{PageSize: 1000}, "MEETING  REGION"},
		{"list --region eu --mc mc-1 --ended --limit 50 --consistency stale", fakeReplica{},
			&conclavev1.ListAssignmentsRequest{Region: "eu", McId: "mc-1", IncludeEnded: true, PageSize: 50, Consistency: conclavev1.Consistency_STALE}, "MEETING  REGION"},
		{"end standup --region eu --token 7 --reason over", fakeReplica{ended: true},
			&conclavev1.EndMeetingRequest{MeetingId: "standup", Region: "eu", FencingToken: 7, Reason: "over"}, "meeting \"standup\" has ended\n"},
		{"end standup", fakeReplica{},
			&conclavev1.EndMeetingRequest{MeetingId: "standup", Reason: "ended from the command line"}, "meeting \"standup\" had no live assignment: nothing to end\n"},
	}
	for i := range tests {
		test := &tests[i]
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			fake := &test.replica
			fake.assignments = sampleAssignments()
			fake.start(t)
			args := append([]string{"meeting"}, strings.Fields(test.args)...)
			got := execute(t, append(args, "--target", fake.address)...)
			if got.code != exitDone || got.stderr != "" || !strings.HasPrefix(got.stdout, test.answer) {
				t.Errorf("got %+v, want stdout to begin with %q", got, test.answer)
			}
			if asked := fake.asked(); len(asked) != 1 || !proto.Equal(asked[0], test.want) {
				t.Errorf("asked %v, want %v alone", asked, test.want)
			}
		})
	}
}

func TestMeetingJSON(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{assignments: sampleAssignments(), created: true, ended: true}).start(t)
	tests := []struct {
		args      string
		got, want proto.Message
	}{
		{"assign standup", &conclavev1.AssignMeetingResponse{}, &conclavev1.AssignMeetingResponse{Assignment: fake.assignments[0], Created: true}},
		{"show standup", &conclavev1.GetAssignmentResponse{}, &conclavev1.GetAssignmentResponse{Assignment: fake.assignments[0], Index: 102}},
		{"list", &conclavev1.ListAssignmentsResponse{}, &conclavev1.ListAssignmentsResponse{Assignments: fake.assignments, Index: 103}},
		{"end standup", &conclavev1.EndMeetingResponse{}, &conclavev1.EndMeetingResponse{Ended: true}},
	}
	for _, test := range tests {
		args := append([]string{"meeting"}, strings.Fields(test.args)...)
		got := execute(t, append(args, "--target", fake.address, "-o", "json")...)
		if err := protojson.Unmarshal([]byte(got.stdout), test.got); err != nil {
			t.Errorf("%s: %v in %+v", test.args, err, got)
		} else if !proto.Equal(test.got, test.want) {
			t.Errorf("%s: got %v, want %v", test.args, test.got, test.want)
		}
	}
}

func TestMeetingListLimit(t *testing.T) {
	t.Parallel()
	fake := &fakeReplica{maxPage: 2}
	for i := range 5 {
		fake.assignments = append(fake.assignments, &conclavev1.Assignment{MeetingId: fmt.Sprint("m", i)})
	}
	fake.start(t)
	tests := []struct {
		limit      string
		lines      int
		wantStderr string
	}{
		{"0", 5, ""},
		{"3", 3, "conclave: there are more than these 3; raise --limit to see them\n"},
		{"5", 5, ""},
		{"6", 5, ""},
	}
	for _, test := range tests {
		got := execute(t, "meeting", "list", "--limit", test.limit, "--target", fake.address)
		lines := strings.Count(got.stdout, "\n") - 1
		if got.code != exitDone || lines != test.lines || got.stderr != test.wantStderr {
			t.Errorf("--limit %s: exit code %d, %d meetings, stderr %q; want 0, %d, %q", test.limit, got.code, lines, got.stderr, test.lines, test.wantStderr)
		}
	}
}
