package replica

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-rtc/conclave/sim"
)

// Controllers are given the bearer token, and the new one once the file has changed; neither
// shows in a log line or an error.
func TestBearerTokenOfControllers(t *testing.T) {
	t.Parallel()
	const first, second = "the-first-secret-token", "the-second-and-longer-secret-token"
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		// Written whole beside it and renamed, as a secret store does.
		if err := os.WriteFile(file+".new", []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	logs := new(logBuffer)
	c := startCluster(t, 3, func(config *Config) {
		config.MCTokenFile = file
		config.Logger = newLogger(logs, config.NodeID != "gc-1")
	})
	needs := func(token string) func(*sim.MeetingControllerConfig) {
		return func(config *sim.MeetingControllerConfig) { config.BearerToken = token }
	}
	c.addMH(t, mh{id: "mh", region: "old", max: 100})
	c.addMH(t, mh{id: "mh-2", region: "new", max: 100})
	old := c.addMC(t, "old-mc", "old", needs(first))
	var seen []error

	a := c.follower(t).join(t, "old", "m").Assignment
	if !hosts(old, a) {
		t.Errorf("it hosts %v, want %v", old.Hosted(), a)
	}
	next := c.addMC(t, "next-mc", "new", needs(second))
	_, err := c.follower(t).tryJoin(t.Context(), "new", "m")
	controllersUnreached.must(t, err)
	seen = append(seen, err)

	write(second)
	eventually(t, "the new token is used", func() error {
		heartbeat(t, next) // it was set aside
		_, err := c.follower(t).tryJoin(t.Context(), "new", "m")
		seen = append(seen, err)
		return err
	})
	// With the new token the old controller is not reached any more: the release of what ended
	// fails, and is logged as such.
	c.follower(t).end(t, "old", "m", a.FencingToken)
	_, err = c.follower(t).tryJoin(t.Context(), "old", "m")
	controllersUnreached.must(t, err)
	seen = append(seen, err)

	logged := logs.String()
	for _, token := range []string{first, second} {
		if strings.Contains(logged, token) {
			t.Error("the logs hold the token")
		}
		for _, err := range seen {
			if err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("an error holds the token: %v", err)
			}
		}
	}
	if !strings.Contains(logged, "did not answer") || !strings.Contains(logged, `"@message"`) || !strings.Contains(logged, "[INFO]") {
		t.Error("the logs do not hold what this test is about, in both formats")
	}
}
