package e2e

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// The token for meeting controllers comes with every call to them, follows its file, and is
// written nowhere, whatever is logged.
func TestMeetingControllerToken(t *testing.T) {
	// gRPC's own log goes to the same place.
	t.Setenv("GRPC_GO_LOG_SEVERITY_LEVEL", "info")
	t.Setenv("GRPC_GO_LOG_VERBOSITY_LEVEL", "99")
	const first, second = "first-very-secret-token", "second-very-secret-token"
	file := filepath.Join(keptFolder(t), "token") // not in the folder of the cluster, which is searched
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	c := startCluster(t, append(quickNodes, "--mc-token-file", file, "--log-level", "trace")...)
	c.startFleet(t, 2, 0)

	old := c.startController(t, "mc-old", first)
	if a := join(t, c.Replicas()[0], "with-first-token"); a.McId != old.ID() {
		t.Errorf("assigned to %s", a.McId)
	}
	write(second)
	old.SetHealth(darktowerv1.HealthStatus_DRAINING)
	if err := old.FastHeartbeat(context.Background()); err != nil {
		t.Fatal(err)
	}
	renewed := c.startController(t, "mc-new", second)
	if a := join(t, c.leader(t), "with-second-token"); a.McId != renewed.ID() {
		t.Errorf("assigned to %s", a.McId)
	}
	// An end is told to the controller with the token too.
	if _, err := assignments(t, c.Replicas()[1]).EndMeeting(patience(t, runPatience), &conclavev1.EndMeetingRequest{MeetingId: "with-second-token"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Replicas() {
		if _, body, err := httpGet("http://" + r.HTTPAddr + "/metrics"); err != nil || bytes.Contains([]byte(body), []byte("very-secret")) {
			t.Errorf("metrics of %s: %v, or the token is among them", r.ID, err)
		}
		terminate(t, r)
	}
	searchFolder(t, c.dir, "very-secret")
}

// startController starts a meeting controller that wants a token, and reports until the test ends.
func (c *cluster) startController(t *testing.T, id, token string) *sim.MeetingController {
	t.Helper()
	mc, err := sim.NewMeetingController(c.all, sim.MeetingControllerConfig{ID: id, Region: "local", BearerToken: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mc.Stop)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	if err := mc.ComprehensiveHeartbeat(ctx); err != nil {
		t.Fatal(err)
	}
	go mc.Run(ctx)
	return mc
}

// searchFolder wants a text in no file below a folder.
func searchFolder(t *testing.T, dir, text string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("%s holds the secret", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("searched %d files: %v", files, err)
	}
}
