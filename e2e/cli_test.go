package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
)

// People work on a cluster with the commands, and programs with their JSON.
func TestCommands(t *testing.T) {
	c := startCluster(t, quickNodes...)
	c.startFleet(t, 2, 2)
	target := "--target=" + c.Targets()
	run := func(t *testing.T, args ...string) result {
		t.Helper()
		return conclave(t, append(args, target)...)
	}
	// table wants exit code 0 and words in the output.
	table := func(t *testing.T, words []string, args ...string) {
		t.Helper()
		got := run(t, args...)
		for _, word := range words {
			if !strings.Contains(got.stdout, word) {
				t.Errorf("conclave %v does not show %q:\n%s%s", args, word, got.stdout, got.stderr)
			}
		}
		if got.code != 0 || got.stderr != "" {
			t.Errorf("conclave %v: exit code %d: %s", args, got.code, got.stderr)
		}
	}
	// document wants exit code 0 and one JSON document.
	document := func(t *testing.T, into any, args ...string) {
		t.Helper()
		got := run(t, append(args, "-o", "json")...)
		if err := json.Unmarshal([]byte(got.stdout), into); err != nil || got.code != 0 {
			t.Fatalf("conclave %v: exit code %d, %v:\n%s%s", args, got.code, err, got.stdout, got.stderr)
		}
	}
	// refused wants exit code 1 and one line that gives the reason.
	refused := func(t *testing.T, reason string, args ...string) {
		t.Helper()
		got := run(t, args...)
		if got.code != 1 || got.stdout != "" || !strings.Contains(complaint(t, got.stderr), reason) {
			t.Errorf("conclave %v: exit code %d, want 1 and %s:\n%s%s", args, got.code, reason, got.stdout, got.stderr)
		}
	}

	t.Run("status", func(t *testing.T) {
		c.converge(t)
		table(t, []string{"leader:", "gc-1", "gc-2", "gc-3", "media handlers:"}, "status")
		var status struct {
			LeaderID string `json:"leader_id"`
			Handlers string `json:"media_handlers"`
			Replicas []struct{ ID, State string }
			Warnings []string
		}
		document(t, &status, "status")
		if status.LeaderID != c.leader(t).ID || status.Handlers != "2" || len(status.Replicas) != 3 || len(status.Warnings) != 0 {
			t.Errorf("status: %+v", status)
		}
		for _, r := range status.Replicas {
			if r.State != "ok" {
				t.Errorf("%s is %q", r.ID, r.State)
			}
		}
	})
	t.Run("nodes", func(t *testing.T) {
		table(t, []string{"mh-local-001", "mh-local-002", "healthy"}, "mh", "list")
		table(t, []string{"mh-local-001", "healthy"}, "mh", "show", "mh-local-001")
		table(t, []string{"mc-local-001", "mc-local-002", "healthy"}, "mc", "list")
		table(t, []string{"mc-local-001", "healthy"}, "mc", "show", "mc-local-001")
		var list struct {
			Handlers []struct {
				ID string `json:"handler_id"`
			} `json:"media_handlers"`
		}
		document(t, &list, "mh", "list")
		if len(list.Handlers) != 2 {
			t.Errorf("mh list: %+v", list)
		}
		refused(t, "NOT_REGISTERED", "mh", "show", "mh-unknown")
		refused(t, "NOT_REGISTERED", "mc", "show", "mc-unknown")
	})
	t.Run("meeting", func(t *testing.T) {
		table(t, []string{"is assigned now", "standup", "mh primary:"}, "meeting", "assign", "standup")
		table(t, []string{"was assigned already"}, "meeting", "assign", "standup")
		table(t, []string{"standup", "token:"}, "meeting", "show", "standup")
		table(t, []string{"standup", "live"}, "meeting", "list")
		var shown struct {
			Assignment struct {
				Token string `json:"fencing_token"`
				MC    string `json:"mc_id"`
			}
		}
		document(t, &shown, "meeting", "show", "standup")
		if !strings.HasPrefix(shown.Assignment.MC, "mc-local-") {
			t.Errorf("meeting show: %+v", shown)
		}
		refused(t, "FENCED", "meeting", "end", "standup", "--token", "1")
		table(t, []string{"has ended"}, "meeting", "end", "standup", "--token", shown.Assignment.Token)
		table(t, []string{"standup", "ended"}, "meeting", "list", "--ended")
		refused(t, "NO_ASSIGNMENT", "meeting", "show", "standup")
		refused(t, "NO_ASSIGNMENT", "meeting", "end", "standup")
		refused(t, "NO_MEDIA_HANDLERS", "meeting", "assign", "elsewhere", "--region", "nowhere")
		refused(t, "INVALID_FIELD", "meeting", "assign", "with/slash")
		if got := run(t, "meeting", "assign"); got.code != 2 {
			t.Errorf("no meeting named: exit code %d", got.code)
		}
	})
	t.Run("replicas down", func(t *testing.T) { commandsWithReplicasDown(t, c, run) })
}

// commandsWithReplicasDown goes on with the next replica, and says so when there is none.
func commandsWithReplicasDown(t *testing.T, c *cluster, run func(*testing.T, ...string) result) {
	first := c.Replicas()[0]
	kill(t, first)
	until(t, settlePatience, "the commands find another replica", func() error {
		if got := run(t, "meeting", "assign", "later"); got.code != 0 {
			return fmt.Errorf("exit code %d: %s", got.code, got.stderr)
		}
		return nil
	})
	if got := run(t, "status"); got.code != 0 || !strings.Contains(got.stdout, "unreachable") {
		t.Errorf("status with %s down: exit code %d\n%s%s", first.ID, got.code, got.stdout, got.stderr)
	}
	rest := c.except(first)
	kill(t, rest...)
	for _, args := range [][]string{{"status"}, {"mh", "list"}, {"meeting", "show", "later"}} {
		got := run(t, args...)
		if got.code != 1 || !strings.Contains(complaint(t, got.stderr), "no replica answered") {
			t.Errorf("conclave %v with all down: exit code %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
	}
	c.restart(t, append([]*localcluster.Replica{first}, rest...)...)
}
