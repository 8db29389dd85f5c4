package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

const (
	hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// answerOf is what a replica says of itself.
func answerOf(node, leader string, term, applied uint64, hash string) *conclavev1.GetStatusResponse {
	return &conclavev1.GetStatusResponse{
		NodeId: node, LeaderId: leader, Term: term, CommitIndex: applied + 1, AppliedIndex: applied, StateHash: hash,
		MediaHandlers: applied * 2, MeetingControllers: applied * 3, LiveAssignments: applied * 4, Version: "v1",
		Members: []*conclavev1.Member{
			{Id: "gc-3", GrpcAddress: "c:1", RaftAddress: "c:2", Suffrage: "nonvoter"},
			{Id: "gc-1", GrpcAddress: "a:1", RaftAddress: "a:2", Suffrage: "voter"},
			{Id: "gc-2", GrpcAddress: "b:1", RaftAddress: "b:2", Suffrage: "voter"},
		},
	}
}

// survey asks the replicas by address, starting from the first one.
func survey(first *conclavev1.GetStatusResponse, byAddress map[string]*conclavev1.GetStatusResponse) clusterSummary {
	return summarize(askReplicas(context.Background(), first, func(_ context.Context, address string) (*conclavev1.GetStatusResponse, error) {
		if answer := byAddress[address]; answer != nil {
			return answer, nil
		}
		return nil, errors.New("nobody there")
	}))
}

func TestStatusTable(t *testing.T) {
	t.Parallel()
	first := answerOf("gc-1", "gc-2", 7, 41, hashA)
	cluster := survey(first, map[string]*conclavev1.GetStatusResponse{"b:1": answerOf("gc-2", "gc-2", 7, 40, hashB)})
	want := `leader:               gc-2
term:                 7
media handlers:       80
meeting controllers:  120
live meetings:        160

ID    ROLE      GRPC  RAFT  SUFFRAGE  TERM  COMMIT  APPLIED  HASH          VERSION  STATE
gc-1  follower  a:1   a:2   voter     7     42      41       aaaaaaaaaaaa  v1       ok
gc-2  leader    b:1   b:2   voter     7     41      40       bbbbbbbbbbbb  v1       ok
gc-3  follower  c:1   c:2   nonvoter  -     -       -        -             -        unreachable
`
	var got bytes.Buffer
	if err := printCluster(&got, outputTable, cluster); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
	if len(cluster.Warnings) > 0 {
		t.Errorf("unexpected warnings: %q", cluster.Warnings)
	}
}

func TestLeaderAndTotals(t *testing.T) {
	t.Parallel()
	type answers = map[string]*conclavev1.GetStatusResponse
	tests := []struct {
		name     string
		first    *conclavev1.GetStatusResponse
		others   answers
		leader   string
		term     uint64
		handlers uint64
	}{
		{"a deposed leader believes in itself", answerOf("gc-1", "gc-1", 5, 90, hashA), answers{"b:1": answerOf("gc-2", "gc-2", 6, 80, hashA)}, "gc-2", 6, 160},
		{"one that is cut off has a greater term", answerOf("gc-1", "", 9, 70, hashA), answers{"b:1": answerOf("gc-2", "gc-2", 6, 80, hashA)}, "gc-2", 6, 160},
		{"the same, asked last", answerOf("gc-1", "gc-1", 6, 80, hashA), answers{"b:1": answerOf("gc-2", "", 9, 70, hashA)}, "gc-1", 6, 160},
		{"the leader does not answer", answerOf("gc-1", "gc-3", 6, 70, hashA), answers{"b:1": answerOf("gc-2", "gc-3", 6, 80, hashA)}, "gc-3", 6, 160},
		{"nobody leads", answerOf("gc-1", "", 6, 70, hashA), answers{"b:1": answerOf("gc-2", "", 8, 60, hashA)}, "", 8, 140},
	}
	for _, test := range tests {
		cluster := survey(test.first, test.others)
		if cluster.LeaderID != test.leader || cluster.Term != test.term || cluster.MediaHandlers != test.handlers {
			t.Errorf("%s: leader %q, term %d, %d media handlers; want %q, %d, %d", test.name,
				cluster.LeaderID, cluster.Term, cluster.MediaHandlers, test.leader, test.term, test.handlers)
		}
		if warned := slices.ContainsFunc(cluster.Warnings, func(w string) bool { return strings.HasPrefix(w, "no leader") }); warned != (test.leader == "") {
			t.Errorf("%s: warnings are %q", test.name, cluster.Warnings)
		}
	}
}

func TestStatesOfReplicas(t *testing.T) {
	t.Parallel()
	first := answerOf("gc-2", "gc-2", 1, 1, hashA)
	first.Members[1].GrpcAddress = ""
	// gc-3 advertises an address at which gc-2 answers.
	cluster := survey(first, map[string]*conclavev1.GetStatusResponse{"c:1": first})
	var states []string
	for _, entry := range cluster.Replicas {
		states = append(states, entry.ID+" "+entry.State)
	}
	if want := []string{"gc-1 not announced", "gc-2 ok", "gc-3 answered by gc-2"}; !slices.Equal(states, want) {
		t.Errorf("states are %q, want %q", states, want)
	}

	stranger := answerOf("gc-9", "", 1, 1, hashA)
	stranger.Members = nil
	if cluster := survey(stranger, nil); len(cluster.Replicas) != 1 || cluster.Replicas[0].State != "not a member" {
		t.Errorf("a replica outside of any cluster is shown as %+v", cluster.Replicas)
	}
}

func TestHashesAreCompared(t *testing.T) {
	t.Parallel()
	first := answerOf("gc-1", "gc-1", 7, 40, hashA)
	tests := []struct {
		name   string
		second *conclavev1.GetStatusResponse
		want   []string
	}{
		{"the same", answerOf("gc-2", "gc-1", 7, 40, hashA), []string{}},
		{"another index", answerOf("gc-2", "gc-1", 7, 41, hashB), []string{}},
		{"not the same", answerOf("gc-2", "gc-1", 7, 40, hashB), []string{
			"gc-1 and gc-2 differ in state at applied index 40 (aaaaaaaaaaaa and bbbbbbbbbbbb): keep their data folders and report this as a bug"}},
	}
	for _, test := range tests {
		cluster := survey(first, map[string]*conclavev1.GetStatusResponse{"b:1": test.second})
		if !slices.Equal(cluster.Warnings, test.want) {
			t.Errorf("%s: warnings are %q, want %q", test.name, cluster.Warnings, test.want)
		}
	}
}

// startCluster serves two replicas that differ in state, and names a third one that is down.
func startCluster(t *testing.T) (first, second *fakeReplica) {
	t.Helper()
	first, second = (&fakeReplica{}).start(t), (&fakeReplica{}).start(t)
	first.status = answerOf("gc-1", "gc-2", 7, 40, hashA)
	second.status = answerOf("gc-2", "gc-2", 7, 40, hashB)
	members := first.status.GetMembers()
	members[0].GrpcAddress, members[1].GrpcAddress, members[2].GrpcAddress = unusedAddress(t), first.address, second.address
	return first, second
}

func TestStatusAsksEveryReplica(t *testing.T) {
	t.Parallel()
	first, second := startCluster(t)
	got := execute(t, "status", "--target", first.address)
	if got.code != exitDone || !strings.HasPrefix(got.stdout, "leader:               gc-2\n") || !strings.Contains(got.stdout, "unreachable") {
		t.Errorf("got %+v", got)
	}
	if !strings.HasPrefix(got.stderr, "conclave: warning: gc-1 and gc-2 differ in state at applied index 40") {
		t.Errorf("stderr is %q, want a warning of unequal hashes", got.stderr)
	}
	if len(first.asked()) != 1 || len(second.asked()) != 1 {
		t.Errorf("the replicas were asked %d and %d times, want once each", len(first.asked()), len(second.asked()))
	}
}

func TestStatusJSON(t *testing.T) {
	t.Parallel()
	first, second := startCluster(t)
	got := execute(t, "status", "--target", first.address, "-o", "json")
	var cluster clusterSummary
	if err := json.Unmarshal([]byte(got.stdout), &cluster); err != nil {
		t.Fatalf("%v in %+v", err, got)
	}
	if cluster.LeaderID != "gc-2" || cluster.Term != 7 || cluster.LiveAssignments != 160 || len(cluster.Warnings) != 1 || len(cluster.Replicas) != 3 {
		t.Errorf("got %+v", cluster)
	}
	for i, want := range []proto.Message{first.status, second.status} {
		var status conclavev1.GetStatusResponse
		if err := protojson.Unmarshal(cluster.Replicas[i].Status, &status); err != nil || !proto.Equal(&status, want) {
			t.Errorf("replica %d: got %v (%v), want %v", i, &status, err, want)
		}
	}
	if down := cluster.Replicas[2]; down.ID != "gc-3" || down.State != "unreachable" || string(down.Status) != "null" {
		t.Errorf("the third replica is %+v, want it unreachable without status", down)
	}
}
