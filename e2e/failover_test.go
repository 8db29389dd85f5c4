package e2e

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// worstFailover is far above what a failover takes: only a cluster that hangs exceeds it.
const worstFailover = 10 * time.Second

// Leaders are killed one after another while people join through whichever replica is up. Nothing
// acknowledged is lost, and joins soon go on. E2E_KILLS says how many (4).
func TestFailover(t *testing.T) {
	kills := 4
	if text := os.Getenv("E2E_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("E2E_KILLS=%q is not a number of kills", text)
		}
	}
	c := startCluster(t, quickNodes...)
	work := c.startTraffic(t, c.startFleet(t, 20, 6), "failover")
	for range kills {
		work.progress(t, 100)
		leader := c.leader(t)
		work.MarkKill(time.Now())
		kill(t, leader)
		work.progress(t, 50)
		c.restart(t, leader)
	}
	work.progress(t, 100)
	work.stop()
	work.judge(t)
	c.converge(t)

	gaps := work.Stats().Gaps
	if len(gaps) != kills {
		t.Fatalf("joins went on after %d of %d kills", len(gaps), kills)
	}
	slices.Sort(gaps)
	quantile := func(q float64) time.Duration { return gaps[int(q*float64(len(gaps)-1)+0.5)] }
	t.Logf("from SIGKILL of the leader to the answer of the next join, over %d kills: median %v, p99 %v, worst %v",
		kills, quantile(0.5), quantile(0.99), gaps[len(gaps)-1])
	if worst := gaps[len(gaps)-1]; worst > worstFailover {
		t.Errorf("joins failed for %v after a kill", worst)
	}
}
