package replica

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
)

// What gets into the log stays there, and a command that no replica can read would stop them all
// at every start: the leader holds what followers send to the same rules as what it receives.
func TestSubmitRefusesWhatMustNotGetIntoTheLog(t *testing.T) {
	c := shared(t)
	leader := replicav1.NewReplicaServiceClient(c.leader(t).conn)
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
		_, err := leader.Submit(t.Context(), &replicav1.SubmitRequest{Commands: []*commandv1.Command{cmd}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want INVALID_ARGUMENT", name, err)
		}
	}
	if _, err := leader.Submit(t.Context(), &replicav1.SubmitRequest{Commands: make([]*commandv1.Command, 513)}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("513 commands: %v, want INVALID_ARGUMENT", err)
	}
	c.leader(t) // it still leads
}
