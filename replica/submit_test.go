package replica

import (
	"testing"

	statusv1 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-rtc/conclave/grpcsvc"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// forward asks a member as another replica does.
func (m *member) forward(t *testing.T, req *replicav1.ForwardRequest) (*replicav1.ForwardResponse, error) {
	t.Helper()
	stream, err := replicav1.NewReplicaServiceClient(m.conn).Forward(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.CloseSend() }()
	req.Number = 7
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if resp.Number != req.Number {
		t.Errorf("request %d is answered as %d", req.Number, resp.Number)
	}
	refused := new(statusv1.Status)
	if err := proto.Unmarshal(resp.Error, refused); err != nil {
		t.Fatal(err)
	}
	return resp, status.ErrorProto(refused)
}

func submitOf(cmds ...*commandv1.Command) *replicav1.ForwardRequest {
	return &replicav1.ForwardRequest{Request: &replicav1.ForwardRequest_Submit{Submit: &replicav1.SubmitRequest{Commands: cmds}}}
}

func joinOf(req *conclavev1.AssignMeetingRequest) *replicav1.ForwardRequest {
	return &replicav1.ForwardRequest{Request: &replicav1.ForwardRequest_AssignMeeting{AssignMeeting: req}}
}

// What gets into the log stays there, and a command that no replica can read would stop them all
// at every start: the leader holds what followers send to the same rules as what it receives.
func TestSubmitRefusesWhatMustNotGetIntoTheLog(t *testing.T) {
	c := shared(t)
	leader := c.leader(t)
	report := func(r *commandv1.ReportLoad) *commandv1.Command {
		return &commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: r}}
	}
	for name, cmd := range map[string]*commandv1.Command{
		"no command":         {},
		"no kind":            report(&commandv1.ReportLoad{Id: "x"}),
		"unknown health":     report(&commandv1.ReportLoad{Kind: 1, Id: "x", Health: 99}),
		"bad id":             report(&commandv1.ReportLoad{Kind: 1, Id: "a b"}),
		"above 100 percent":  report(&commandv1.ReportLoad{Kind: 1, Id: "x", CpuPercent: 101}),
		"a leader's command": {Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: "m", Region: "eu"}}},
		"not a member": {Op: &commandv1.Command_AnnounceMember{AnnounceMember: &commandv1.AnnounceMember{
			NodeId: "gc-99", GrpcAddress: "127.0.0.1:1", CommandVersion: 1,
		}}},
	} {
		if _, err := leader.forward(t, submitOf(cmd)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want INVALID_ARGUMENT", name, err)
		}
	}
	if _, err := leader.forward(t, submitOf(make([]*commandv1.Command, 513)...)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("513 commands: %v, want INVALID_ARGUMENT", err)
	}
	c.leader(t) // it still leads
}

// What another replica forwards is held to the rules as what a client sends, and answered by the leader only.
func TestForwardedRequestsAreHeldToTheRules(t *testing.T) {
	c := shared(t)
	mc := c.addRegion(t, "forwarded")
	leader, follower := c.leader(t), c.follower(t)
	join := &conclavev1.AssignMeetingRequest{MeetingId: "forwarded-1", Region: "forwarded"}
	resp, err := leader.forward(t, joinOf(join))
	if result := resp.GetAssignMeeting(); err != nil || !result.GetResponse().GetCreated() || result.Index == 0 {
		t.Errorf("a join: %v, %v", resp, err)
	}
	if resp, err := leader.forward(t, joinOf(join)); err != nil || resp.GetAssignMeeting().GetResponse().GetCreated() {
		t.Errorf("the same join again: %v, %v", resp, err)
	}
	if _, err := leader.forward(t, joinOf(&conclavev1.AssignMeetingRequest{MeetingId: "a b", Region: "forwarded"})); grpcsvc.ReasonOf(err) != grpcsvc.ReasonInvalidField {
		t.Errorf("a bad name: %v", err)
	}
	if _, err := leader.forward(t, new(replicav1.ForwardRequest)); status.Code(err) != codes.Unimplemented {
		t.Errorf("a request of a newer version: %v", err)
	}
	for name, req := range map[string]*replicav1.ForwardRequest{
		"a join":   joinOf(join),
		"commands": submitOf(&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{Kind: 1, Id: "x", Health: 1}}}),
		"a read":   {Request: &replicav1.ForwardRequest_ReadIndex{ReadIndex: new(replicav1.ReadIndexRequest)}},
	} {
		if _, err := follower.forward(t, req); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s at a follower: %v, want FAILED_PRECONDITION", name, err)
		}
	}
	mc.SetScript(sim.Always(sim.Hang()))
	late := joinOf(&conclavev1.AssignMeetingRequest{MeetingId: "forwarded-2", Region: "forwarded"})
	late.TimeoutUs = 1000
	if _, err := leader.forward(t, late); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a join that takes longer than its caller waits: %v", err)
	}
}

// A comprehensive heartbeat that a follower has to send again, since its answer was lost, may come after a
// later word of the controller. That stands.
func TestHeartbeatThatComesTwiceTakesNothingBack(t *testing.T) {
	c := shared(t)
	const id = "heartbeat-twice"
	c.addMC(t, id, id)
	passedOn := func(name string, health darktowerv1.HealthStatus) {
		t.Helper()
		ctx := metadata.AppendToOutgoingContext(t.Context(), "conclave-forwarded", "gc-9", "conclave-report", name)
		_, err := c.leader(t).controllers().ComprehensiveHeartbeat(ctx, &darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: id, Health: health})
		if err != nil {
			t.Fatal(err)
		}
	}
	passedOn("77/1", darktowerv1.HealthStatus_HEALTHY)
	passedOn("77/2", darktowerv1.HealthStatus_DRAINING)
	passedOn("77/1", darktowerv1.HealthStatus_HEALTHY)
	if got := c.leader(t).controller(t, id).Health; got != darktowerv1.HealthStatus_DRAINING {
		t.Errorf("the controller is %v, want draining as it said last", got)
	}
	passedOn("77/3", darktowerv1.HealthStatus_HEALTHY)
	if got := c.leader(t).controller(t, id).Health; got != darktowerv1.HealthStatus_HEALTHY {
		t.Errorf("the controller is %v, want healthy again", got)
	}
}
