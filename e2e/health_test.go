package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	"github.com/conclave-rtc/conclave/sim"
)

var httpClient = &http.Client{Timeout: 3 * time.Second}

func httpGet(url string) (code int, body string, err error) {
	resp, err := httpClient.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// A replica without quorum is alive but not ready: it answers what needs no quorum, and refuses
// the rest soon.
func TestLossOfQuorum(t *testing.T) {
	const forwardTimeout = time.Second
	c := startCluster(t, append(quickNodes, "--forward-timeout", forwardTimeout.String())...)
	c.startFleet(t, 2, 2)
	left, lost := c.Replicas()[0], c.Replicas()[1:]
	join(t, left, "before")
	c.awaitReady(t, left) // a linearizable read: it has seen the join
	kill(t, lost...)

	live, ready := "http://"+left.HTTPAddr+"/health/live", "http://"+left.HTTPAddr+"/health/ready"
	until(t, settlePatience, "not ready", func() error {
		code, body, err := httpGet(ready)
		if err != nil || code != http.StatusServiceUnavailable {
			return fmt.Errorf("%d %s %v", code, body, err)
		}
		var answer struct{ Status, Reason string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Reason == "" {
			t.Fatalf("/health/ready gives no reason in JSON: %q", body)
		}
		return nil
	})
	if code, body, err := httpGet(live); code != http.StatusOK {
		t.Errorf("/health/live without quorum: %d %s %v", code, body, err)
	}
	answer, err := assignments(t, left).GetAssignment(patience(t, runPatience), &conclavev1.GetAssignmentRequest{
		MeetingId: "before", Consistency: conclavev1.Consistency_STALE,
	})
	if err != nil || answer.GetAssignment().GetMeetingId() != "before" {
		t.Errorf("a stale read without quorum: %v, %v", answer, err)
	}
	began := time.Now()
	_, err = assignments(t, left).AssignMeeting(patience(t, runPatience), &conclavev1.AssignMeetingRequest{MeetingId: "without-quorum"})
	if took := time.Since(began); status.Code(err) != codes.Unavailable || sim.Reason(err) != "NO_LEADER" || took > forwardTimeout+2*time.Second {
		t.Errorf("a join without quorum was answered after %v: %v", took, err)
	}

	c.restart(t, lost...)
	c.awaitReady(t, left)
	join(t, left, "after")
	c.converge(t)
}
