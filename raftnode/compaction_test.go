package raftnode

import (
	"fmt"
	"testing"
	"time"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// A replica that starts must not have to apply far more than it keeps: a log that has grown long gives
// way to a snapshot, however few its entries are, and a big snapshot to a long log only.
func TestALongLogMakesASnapshot(t *testing.T) {
	c := newStoppedCluster(t, 1, LogStoreWAL)
	c.configs[0].Retention = Retention{SnapshotThreshold: 1 << 40, SnapshotLogBytes: 10_000, SnapshotInterval: 10 * time.Millisecond, TrailingLogs: 1}
	c.start(0)
	n := c.nodes[c.leader()]
	group := func(size int) {
		t.Helper()
		var cmds []*commandv1.Command
		for i := range size {
			cmds = append(cmds, register(fmt.Sprintf("mh-%d", i), 1))
		}
		if _, err := n.ProposeAll(t.Context(), Bulk, cmds); err != nil {
			t.Fatal(err)
		}
	}
	group(10)
	if n.snapshotDue() {
		t.Errorf("a log of %d bytes is too long already", n.growth.uncovered())
	}
	group(2000)
	eventually(t, "a snapshot of a long log", func() bool { return n.snapshotSize() > 0 && n.growth.uncovered() == 0 })
	size := n.snapshotSize()
	if size < 30_000 {
		t.Fatalf("the snapshot has %d bytes only: the test must register more", size)
	}
	for n.growth.uncovered() <= 10_000 {
		group(10)
	}
	if n.snapshotDue() {
		t.Errorf("a log of %d bytes is too long after a snapshot of %d", n.growth.uncovered(), size)
	}
	covered := n.growth.covered.Load()
	eventually(t, "another snapshot", func() bool {
		group(500)
		return n.growth.covered.Load() > covered
	})

	c.stop(0)
	left := n.growth.uncovered()
	c.start(0)
	n = c.nodes[c.leader()]
	if again := n.growth.applied.Load(); again > left+1000 { // it leads anew
		t.Errorf("%d bytes of the log were applied again, there were %d since the snapshot", again, left)
	}
}
