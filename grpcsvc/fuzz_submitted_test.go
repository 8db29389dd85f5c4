package grpcsvc

import (
	"bytes"
	"math"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
)

// FuzzSubmitted: whatever another replica submits, what the leader lets through can be applied,
// breaks no rule for names, and leaves a state that a snapshot can carry: in the log it would stop
// every replica, at every start.
func FuzzSubmitted(f *testing.F) {
	for _, cmd := range submittable() {
		data, err := proto.Marshal(&replicav1.SubmitRequest{Commands: []*commandv1.Command{cmd}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	all, err := proto.Marshal(&replicav1.SubmitRequest{Commands: submittable()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		req := new(replicav1.SubmitRequest)
		if proto.Unmarshal(data, req) != nil {
			return
		}
		var passed []*commandv1.Command
		for _, cmd := range req.Commands {
			// An announcement is held against the members of a running cluster.
			if cmd.GetAnnounceMember() == nil && (replica{}).checkSubmitted(cmd) == nil {
				passed = append(passed, cmd)
			}
		}
		checkApplies(t, passed)
	})
}

// submittable are commands as followers send them, some that only a leader decides, and some that
// break a rule.
func submittable() []*commandv1.Command {
	long := strings.Repeat("x", 255)
	report := func(cpu, memory, bandwidth float32) *commandv1.Command {
		return &commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
			Kind: fsm.MediaHandler, Id: "mh-1", CpuPercent: cpu, MemoryPercent: memory, BandwidthPercent: bandwidth}}}
	}
	return []*commandv1.Command{
		{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
			Kind: fsm.MediaHandler, Id: long, Region: long[:50], Zone: long[:50], GrpcEndpoint: "grpc://" + long[:248],
			WebtransportEndpoint: "https://" + long[:247], Capacity: math.MaxUint32, MaxParticipants: math.MaxUint32, RegistrationId: math.MaxUint64}}},
		{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
			Kind: fsm.MediaHandler, Id: "mh-2", Region: long[:51], GrpcEndpoint: "ftp://mh", WebtransportEndpoint: "https://mh"}}},
		{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{Kind: 3, Id: "mh-1", Health: 9}}},
		{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
			Kind: fsm.MediaHandler, Id: "mh-1", Region: "eu", Zone: "a", GrpcEndpoint: "grpc://mh-1:50053",
			WebtransportEndpoint: "https://mh-1:4433", Capacity: 10, RegistrationId: 7}}},
		{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
			Kind: fsm.MeetingController, Id: "mc-1", Region: "eu", GrpcEndpoint: "http://[::1]:50052",
			WebtransportEndpoint: "https://mc-1", Capacity: 10, MaxParticipants: 5, Dialect: fsm.DialectV0, RegistrationId: 8}}},
		{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
			Kind: fsm.MediaHandler, Id: "mh-1", Health: fsm.Healthy, CpuPercent: 12.5, Usage: &commandv1.Usage{Used: 3, Capacity: 9}}}},
		{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{Kind: fsm.MeetingController, Id: "mc-1", Health: fsm.Draining}}},
		report(100, 0.5, 0.25),
		report(-1, 0, 0), report(0, 101, 0), report(0, 0, float32(math.NaN())), report(0, 0, float32(math.Inf(1))),
		{Op: &commandv1.Command_MarkStale{MarkStale: &commandv1.MarkStale{Kind: fsm.MediaHandler, Id: "mh-1", HeardIndex: 1}}},
		{Op: &commandv1.Command_Assign{Assign: &commandv1.Assign{MeetingId: "m", Region: "eu", FencingToken: 1<<40 | 1, McId: "mc-1"}}},
		{Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: "m", Region: "eu"}}},
	}
}

var plainEndpoint = regexp.MustCompile(`^(http|https|grpc)://[!-~]{1,250}$`)

// checkApplies commits commands to a state machine, twice, and holds what it has then to the rules.
func checkApplies(t *testing.T, cmds []*commandv1.Command) {
	data, err := fsm.EncodeEntry(&commandv1.Entry{StampUnixMs: 1000, Commands: cmds})
	if err != nil {
		t.Fatal(err)
	}
	m := fsm.NewMachine(nil)
	results, err := m.Apply([]fsm.Entry{{Index: 1, Term: 1, Data: data}, {Index: 2, Term: 1, Data: data}})
	if err != nil || len(results[0]) != len(cmds) {
		t.Fatalf("%v does not apply: %d results, %v", cmds, len(results[0]), err)
	}
	state := m.Snapshot()
	var file bytes.Buffer
	if err := fsm.WriteSnapshot(&file, state); err != nil {
		t.Fatalf("%v leaves a state without a snapshot: %v", cmds, err)
	}
	again, err := fsm.ReadSnapshot(&file)
	if err != nil || again.Hash() != state.Hash() {
		t.Fatalf("%v leaves a state that does not come back: %v", cmds, err)
	}
	if counts := state.Counts(); counts.LiveAssignments+counts.EndedAssignments > 0 {
		t.Errorf("%v made assignments: %+v", cmds, counts)
	}
	for _, kind := range []fsm.Kind{fsm.MediaHandler, fsm.MeetingController} {
		state.Nodes(kind, "", func(n *fsm.Node) bool {
			checkNode(t, n)
			return true
		})
	}
}

func checkNode(t *testing.T, n *fsm.Node) {
	switch {
	case !plainID.MatchString(n.ID), !plainRegion.MatchString(n.Region),
		n.Zone != "" && !plainRegion.MatchString(n.Zone),
		!plainEndpoint.MatchString(n.GRPCEndpoint), !plainEndpoint.MatchString(n.WebTransportEndpoint),
		n.Capacity == 0:
		t.Errorf("registered: %+v", n)
	}
	for _, percent := range []float32{n.CPUPercent, n.MemoryPercent, n.BandwidthPercent} {
		if !(percent >= 0) || percent > 100 {
			t.Errorf("%s reports %v%%", n.ID, percent)
		}
	}
	if load := n.Load(0); !(load >= 0) {
		t.Errorf("%s has the load %v", n.ID, load)
	}
}
