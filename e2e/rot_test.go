package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
)

// A changed byte inside a log entry leaves the files of the log as well formed as they were. A
// replica that replays it must notice: its state would silently be another one.
func TestRottenLogEntry(t *testing.T) {
	for _, store := range []string{"bolt", "wal"} {
		t.Run(store, func(t *testing.T) {
			c := startCluster(t, "--log-store", store)
			newReporter(c.all).report(t, 5)
			c.converge(t)
			startDamaged(t, c, rot)
		})
	}
}

// rot changes a letter of an endpoint wherever the files of the log have it.
func rot(t *testing.T, r *localcluster.Replica) {
	files, err := filepath.Glob(filepath.Join(r.DataDir, "wal", "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, path := range append(files, filepath.Join(r.DataDir, "raft.db")) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		good, bad := []byte("mh-report.sim.invalid"), []byte("mh-report.sin.invalid")
		changed += bytes.Count(data, good)
		if err := os.WriteFile(path, bytes.ReplaceAll(data, good, bad), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if changed == 0 {
		t.Fatal("the log does not hold what was to be changed")
	}
}
