package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const testForwardTimeout = 1500 * time.Millisecond

func withForwardTimeout(c *Config) { c.ForwardTimeout = testForwardTimeout }

// needQuorum are calls that nobody can answer without a quorum. The last two reach a meeting
// that is live, and a new one, whose controller accepts it.
func needQuorum(region string) map[string]func(context.Context, *member) error {
	return map[string]func(context.Context, *member) error{
		"a read": func(ctx context.Context, m *member) error {
			_, err := m.gateway().GetAssignment(ctx, &conclavev1.GetAssignmentRequest{MeetingId: "there", Region: region})
			return err
		},
		"a list": func(ctx context.Context, m *member) error {
			_, err := m.registryOf().ListMediaHandlers(ctx, &conclavev1.ListMediaHandlersRequest{})
			return err
		},
		"a registration": func(ctx context.Context, m *member) error {
			_, err := m.handlers().RegisterMH(ctx, mh{id: "late", region: region}.registration())
			return err
		},
		"a report": func(ctx context.Context, m *member) error {
			_, err := m.handlers().SendLoadReport(ctx, &darktowerv1.SendLoadReportRequest{HandlerId: region + "-mh-1", Health: darktowerv1.HealthStatus_HEALTHY})
			return err
		},
		"a heartbeat": func(ctx context.Context, m *member) error {
			_, err := m.controllers().ComprehensiveHeartbeat(ctx, &darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: region + "-mc", Health: darktowerv1.HealthStatus_HEALTHY})
			return err
		},
		"an end": func(ctx context.Context, m *member) error {
			_, err := m.gateway().EndMeeting(ctx, &conclavev1.EndMeetingRequest{MeetingId: "there", Region: region, FencingToken: 1})
			return err
		},
		"joining a live meeting": func(ctx context.Context, m *member) error {
			_, err := m.tryJoin(ctx, region, "there")
			return err
		},
		"joining a new meeting": func(ctx context.Context, m *member) error {
			_, err := m.tryJoin(ctx, region, "new")
			return err
		},
	}
}

// Without a quorum a replica says so in time, whether it led before or followed; it stays alive,
// answers what needs no quorum, and serves again as soon as there is one.
func TestWithoutQuorum(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"the leader is left": true, "a follower is left": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, withForwardTimeout)
			c.addRegion(t, "q")
			a := c.leader(t).join(t, "q", "there").Assignment
			left := c.leader(t)
			if !leads {
				left = c.follower(t)
				left.live(t, "q", "there") // linearizable: it has applied the join
			}
			for _, m := range c.members {
				if m != left {
					m.kill()
				}
			}
			var calls sync.WaitGroup
			for name, call := range needQuorum("q") {
				calls.Go(func() { refusedInTime(t, name, left, call) })
			}
			calls.Wait()
			answersWithoutQuorum(t, left, a)
			for _, m := range c.members {
				if m != left {
					m.restart(t)
				}
			}
			c.waitReady(t)
			if again := left.join(t, "q", "there"); again.Created || !sameAssignment(again.Assignment, a) {
				t.Errorf("with a quorum again: %v, want %v", again, a)
			}
			eventually(t, "its health service says so", func() error { return served(t, left, healthv1.HealthCheckResponse_SERVING) })
		})
	}
}

// refusedInTime calls without a deadline, and with one that is shorter than the forward timeout:
// its caller must learn the reason and not only that time is up.
func refusedInTime(t *testing.T, name string, left *member, call func(context.Context, *member) error) {
	const margin = 2 * time.Second // of a busy machine
	began := time.Now()
	if bad := noLeader.check(call(t.Context(), left)); bad != nil {
		t.Errorf("%s without a deadline: %v", name, bad)
	}
	if took := time.Since(began); took > testForwardTimeout+margin {
		t.Errorf("%s without a deadline took %v, the forward timeout is %v", name, took, testForwardTimeout)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testForwardTimeout/2)
	defer cancel()
	if bad := noLeader.check(call(ctx, left)); bad != nil {
		t.Errorf("%s with a deadline of %v: %v", name, testForwardTimeout/2, bad)
	}
}

func answersWithoutQuorum(t *testing.T, left *member, a *conclavev1.Assignment) {
	stale, err := left.gateway().GetAssignment(t.Context(), &conclavev1.GetAssignmentRequest{
		MeetingId: a.MeetingId, Region: a.Region, Consistency: conclavev1.Consistency_STALE})
	if err != nil || !sameAssignment(stale.Assignment, a) {
		t.Errorf("a stale read: %v, %v, want %v", stale, err, a)
	}
	status := left.status(t)
	reachable := 0
	for _, m := range status.Members {
		if m.Reachable {
			reachable++
		}
	}
	if len(status.Members) != 3 || reachable != 1 || status.LeaderId != "" || status.NodeId != left.id() {
		t.Errorf("status: %v, want three members, itself reachable, no leader", status)
	}
	if code, _ := left.get(t, "/health/live"); code != http.StatusOK {
		t.Errorf("/health/live answers %d: it must not depend on the others", code)
	}
	code, body := left.get(t, "/health/ready")
	var why struct{ Status, Reason string }
	if err := json.Unmarshal([]byte(body), &why); err != nil || code != http.StatusServiceUnavailable || why.Reason == "" {
		t.Errorf("/health/ready answers %d %s, %v, want 503 and a reason", code, body, err)
	}
	eventually(t, "its health service says so", func() error { return served(t, left, healthv1.HealthCheckResponse_NOT_SERVING) })
}

// served says whether the health service gives this status to the whole and to every service.
func served(t *testing.T, m *member, want healthv1.HealthCheckResponse_ServingStatus) error {
	for _, service := range []string{"", "dark_tower.internal.v1.GlobalControllerService",
		"dark_tower.internal.MediaHandlerRegistryService", "conclave.v1.AssignmentService"} {
		answer, err := healthv1.NewHealthClient(m.conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			return err
		}
		if answer.Status != want {
			return fmt.Errorf("%q is %v, want %v", service, answer.Status, want)
		}
	}
	return nil
}

// get reads a page of a replica's HTTP server.
func (m *member) get(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m.addrs[2]+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
