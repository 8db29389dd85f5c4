package replica

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

func TestHealthPagesOfAReadyReplica(t *testing.T) {
	c := shared(t)
	for _, m := range c.members {
		for page, want := range map[string]string{"/health/live": `{"status":"live"}`, "/health/ready": `{"status":"ready"}`} {
			if code, body := m.get(t, page); code != http.StatusOK || strings.TrimSpace(body) != want {
				t.Errorf("%s of %s: %d %s, want %s", page, m.id(), code, body, want)
			}
		}
	}
}

func TestProfilesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2, func(config *Config) { config.Pprof = config.NodeID == "gc-1" })
	for i, want := range []int{http.StatusOK, http.StatusNotFound} {
		for _, page := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1"} {
			if code, _ := c.members[i].get(t, page); code != want {
				t.Errorf("%s of %s: %d, want %d", page, c.members[i].id(), code, want)
			}
		}
	}
}

// metricNames are those that dashboards and alerts hold.
var metricNames = []string{
	"gc_mc_assignments_total", "gc_mc_assignment_duration_seconds_bucket", "gc_mh_selections_total",
	"gc_mc_calls_total", "gc_mc_call_duration_seconds_bucket",
	"gc_registered_media_handlers", "gc_registered_meeting_controllers", "gc_active_assignments",
	"gc_load_reports_total", "gc_forwarded_requests_total", "gc_refused_requests_total",
	"gc_fsm_apply_duration_seconds_bucket", "gc_fsm_batch_size_bucket", "gc_leader", "gc_leader_changes_total",
	"gc_orphaned_acceptances_total", "grpc_server_handled_total", "grpc_server_handling_seconds_bucket",
}

// After some of everything every metric is there, and none has a label that users can grow
// without bound.
func TestMetrics(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, withForwardTimeout)
	const region = "metrics"
	c.addMH(t, mh{id: "handler-id", region: region, zone: "zone-name"})
	mc := c.addMC(t, "controller-id", region, scripted(inTurn(sim.AcceptThenHang())))
	_, err := c.follower(t).tryJoin(t.Context(), region, "meeting-id") // leaves an orphan
	controllersUnreached.must(t, err)
	heartbeat(t, mc)
	a := c.follower(t).join(t, region, "meeting-id").Assignment
	c.leader(t).join(t, region, "meeting-id")
	mh{id: "handler-id", region: region}.report(t, c.follower(t))
	_, err = c.follower(t).handlers().SendLoadReport(t.Context(), &darktowerv1.SendLoadReportRequest{HandlerId: "stranger-id"})
	notRegistered.must(t, err)

	ids := []string{"handler-id", "controller-id", "meeting-id", "stranger-id", "zone-name", "gc-1", "gc-2", "gc-3", fmt.Sprint(a.FencingToken)}
	label := regexp.MustCompile(`="((?:[^"\\]|\\.)*)"`)
	leaders := 0
	all := make(map[string]bool)
	eventually(t, "every metric is there", func() error {
		leaders = 0
		for _, m := range c.members {
			code, page := m.get(t, "/metrics")
			if code != http.StatusOK {
				return fmt.Errorf("%s answers %d", m.id(), code)
			}
			for _, line := range strings.Split(page, "\n") {
				name, _, _ := strings.Cut(line, " ")
				name, _, _ = strings.Cut(name, "{")
				all[name] = true
				for _, value := range label.FindAllStringSubmatch(line, -1) {
					if slices.Contains(ids, value[1]) {
						t.Fatalf("a label carries an id: %s", line)
					}
				}
			}
			if strings.Contains(page, "\ngc_leader 1\n") {
				leaders++
			}
		}
		for _, name := range metricNames {
			if !all[name] {
				return fmt.Errorf("%s is missing", name)
			}
		}
		return nil
	})
	if leaders != 1 {
		t.Errorf("gc_leader is 1 at %d replicas", leaders)
	}
	_, page := c.leader(t).get(t, "/metrics")
	for _, want := range []string{
		`gc_mc_assignments_total{rejection_reason="none",status="success"} 1`,
		`gc_mc_assignments_total{rejection_reason="none",status="reused"} 1`,
		`gc_mc_assignments_total{rejection_reason="none",status="error"} 1`,
		`gc_mc_calls_total{outcome="accepted"} 1`,
		`gc_mc_calls_total{outcome="timeout"} 1`,
		`gc_mh_selections_total{has_backup="false",status="success"} 2`,
		`gc_active_assignments{region="metrics"} 1`,
		`gc_registered_media_handlers{health="healthy",region="metrics"} 1`,
		`gc_registered_meeting_controllers{health="healthy",region="metrics"} 1`,
		`gc_mc_assignment_duration_seconds_bucket{status="success",le="0.005"}`,
		`gc_mc_assignment_duration_seconds_bucket{status="success",le="0.5"}`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the leader's metrics do not have %s", want)
		}
	}
	_, page = c.follower(t).get(t, "/metrics")
	for _, want := range []string{`gc_forwarded_requests_total{method="AssignMeeting",outcome="answered"}`, `gc_load_reports_total{outcome="not_registered"} 1`} {
		if !strings.Contains(page, want) {
			t.Errorf("the follower's metrics do not have %s", want)
		}
	}
}
