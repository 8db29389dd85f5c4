package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A short run with a fixed seed: leaders, majorities and all replicas are killed, stopped and cut
// off under load, and every invariant holds.
func TestShortRun(t *testing.T) {
	if testing.Short() {
		t.Skip("about a minute")
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "conclave")
	build := exec.Command("go", "build", "-o", binary, "github.com/conclave-rtc/conclave/cmd/conclave")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build conclave: %v\n%s", err, out)
	}
	kept, err := os.MkdirTemp("", "conclave-chaos-test-")
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), Config{
		Binary: binary, Dir: kept, Replicas: 3, LogStore: "wal",
		For: 30 * time.Second, Round: 30 * time.Second, Seed: 1, Rate: 250,
		Faults: []string{
			"kill-leader", "kill-follower", "kill-majority", "kill-all", "stop-leader-3-leases", "isolate-leader",
			"hand-over", "mc-accepts-then-dies", "mc-answer-lost", "mc-restarts", "mh-flaps",
		},
		Again: "go test -run TestShortRun ./chaos",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Write(t.Output()); err != nil {
		t.Error(err)
	}
	if !report.OK() {
		t.Errorf("violations; everything is kept in %s", report.Artifacts)
	}
	kills := 0
	for _, i := range report.Injections {
		if i.Fault == "kill-leader" {
			kills++
		}
	}
	if report.Checked < 1000 || kills < 2 {
		t.Errorf("%d operations checked and %d leaders killed: this proves nothing", report.Checked, kills)
	}
}
