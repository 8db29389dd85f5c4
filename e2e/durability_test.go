package e2e

import (
	"path"
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/sim"
)

// What was acknowledged is there after any replicas were killed, on every replica alike.
func TestAcknowledgedWritesSurviveKills(t *testing.T) {
	everyone := func(_ *testing.T, c *cluster) []*localcluster.Replica { return c.Replicas() }
	leader := func(t *testing.T, c *cluster) []*localcluster.Replica { return []*localcluster.Replica{c.leader(t)} }
	follower := func(t *testing.T, c *cluster) []*localcluster.Replica { return c.except(c.leader(t))[:1] }

	t.Run("bolt", func(t *testing.T) {
		c := startCluster(t, append(quickNodes, "--log-store", "bolt")...)
		fleet := c.startFleet(t, 8, 4)
		t.Run("leader", func(t *testing.T) { surviveKill(t, c, fleet, leader) })
		t.Run("follower", func(t *testing.T) { surviveKill(t, c, fleet, follower) })
		t.Run("all", func(t *testing.T) { surviveKill(t, c, fleet, everyone) })
	})
	t.Run("wal", func(t *testing.T) {
		c := startCluster(t, append(quickNodes, "--log-store", "wal")...)
		fleet := c.startFleet(t, 8, 4)
		t.Run("all", func(t *testing.T) { surviveKill(t, c, fleet, everyone) })
	})
}

// surviveKill kills replicas in the middle of joins, ends, registrations and reports.
func surviveKill(t *testing.T, c *cluster, fleet *sim.Fleet, choose func(*testing.T, *cluster) []*localcluster.Replica) {
	prefix := "kill-" + path.Base(t.Name())
	work, notes := c.startTraffic(t, fleet, prefix), startBooks(t, c.all, prefix)
	work.progress(t, 100)
	victims := choose(t, c)
	kill(t, victims...)
	if len(victims) < len(c.Replicas()) {
		work.progress(t, 100)
	}
	c.restart(t, victims...)
	work.progress(t, 100)
	notes.stop()
	work.stop()
	work.judge(t)
	notes.judge(t, c.Replicas())
	c.converge(t)
}
