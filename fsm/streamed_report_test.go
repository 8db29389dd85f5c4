package fsm

import (
	"testing"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

func streamed(session, sequence uint64, used uint32) *commandv1.ReportLoad {
	r := report(MediaHandler, "mh", Healthy, used)
	r.Session, r.Sequence = session, sequence
	return r
}

// A report on a stream has an effect once, and none after a later one of its session. Reports of
// other sessions, and such that come alone, are newer by being there.
func TestStreamedReportsHaveTheirOrder(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "mh", 1))
	r.must(2000, streamed(7, 5, 50))
	for name, late := range map[string]*commandv1.ReportLoad{
		"the same again": streamed(7, 5, 50),
		"an older one":   streamed(7, 4, 40),
	} {
		before := r.state().Hash()
		if got := r.expect(Repeated, 2000, late).Node; got != r.node(MediaHandler, "mh") || r.state().Hash() != before {
			t.Errorf("%s changed the state: %+v", name, got)
		}
	}
	for _, step := range []struct {
		name    string
		cmd     *commandv1.ReportLoad
		outcome Outcome
		used    uint32
	}{
		{"a later one", streamed(7, 9, 90), Applied, 90},
		{"one alone", report(MediaHandler, "mh", Healthy, 3), Applied, 3},
		{"one that was overtaken before", streamed(7, 8, 80), Repeated, 3},
		{"another session", streamed(8, 1, 10), Applied, 10},
		{"that session's next", streamed(8, 2, 20), Applied, 20},
		{"that session's first again", streamed(8, 1, 10), Repeated, 20},
	} {
		r.expect(step.outcome, 3000, step.cmd)
		if used := r.node(MediaHandler, "mh").Used; used != step.used {
			t.Errorf("after %s %d are used, want %d", step.name, used, step.used)
		}
	}
	checkInvariants(t, r.state())
	checkInvariants(t, restored(t, r.state()))
}

func TestARegistrationKeepsTheOrderOfReports(t *testing.T) {
	r := newReplica(t)
	r.must(1000, register(MediaHandler, "mh", 1))
	r.must(2000, streamed(7, 5, 50))
	r.must(3000, register(MediaHandler, "mh", 2))
	r.expect(Repeated, 3000, streamed(7, 5, 50))
	if n := r.node(MediaHandler, "mh"); n.Health != Pending || n.Used != 0 {
		t.Errorf("a report from before the restart was taken: %+v", n)
	}
	r.must(4000, streamed(7, 6, 1))
}

// A replica that knows no sessions must not be given one.
func TestStreamedReportsAreOfVersionTwo(t *testing.T) {
	for version, cmd := range map[uint32]*commandv1.ReportLoad{1: report(MediaHandler, "mh", Healthy, 1), 2: streamed(7, 1, 1)} {
		if since := Since(command(cmd)); since != version {
			t.Errorf("%v is known since %d, want %d", cmd, since, version)
		}
	}
}
