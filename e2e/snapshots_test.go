package e2e

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/sim"
)

// frequentSnapshots make a snapshot every few entries and keep hardly any log behind it.
var frequentSnapshots = []string{
	"--raft-snapshot-threshold", "32", "--raft-snapshot-interval", "50ms", "--raft-trailing-logs", "8",
}

// snapshots are the folders of a replica's snapshots, the oldest first.
func snapshots(t *testing.T, r *localcluster.Replica) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.DataDir, "snapshots", "*", "state.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, file := range files {
		if dir := filepath.Dir(file); !strings.HasSuffix(dir, ".tmp") {
			dirs = append(dirs, dir)
		}
	}
	// Their names are term-index-milliseconds.
	takenAt := func(dir string) string { return dir[strings.LastIndex(dir, "-")+1:] }
	slices.SortFunc(dirs, func(a, b string) int { return cmp.Compare(takenAt(a), takenAt(b)) })
	return dirs
}

// reporter commits entries, one after another.
type reporter struct{ handler *sim.MediaHandler }

func newReporter(cluster *sim.Cluster) reporter {
	return reporter{sim.NewMediaHandler(cluster, sim.MediaHandlerConfig{ID: "mh-report", Region: "local"})}
}

func (r reporter) report(t *testing.T, entries int) {
	t.Helper()
	for range entries {
		if err := r.handler.Report(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// untilNewSnapshots reports until every one of the replicas has made two more snapshots, so that
// none of the older ones is left.
func (r reporter) untilNewSnapshots(t *testing.T, replicas []*localcluster.Replica) {
	t.Helper()
	for _, replica := range replicas {
		old := snapshots(t, replica)
		until(t, settlePatience, replica.ID+" makes snapshots", func() error {
			r.report(t, 10)
			have := snapshots(t, replica)
			if len(have) < 2 || slices.ContainsFunc(have, func(dir string) bool { return slices.Contains(old, dir) }) {
				return fmt.Errorf("it has %v", have)
			}
			return nil
		})
	}
}
