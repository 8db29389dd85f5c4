package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

// A machine is lost under load, and one with an empty disk is started under its name. Nobody does
// anything else: it gets everything from the others, votes again, and the cluster keeps its word.
func TestLostDisk(t *testing.T) {
	for name, args := range map[string][]string{"by the log": nil, "by snapshots": frequentSnapshots} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, append(args, quickNodes...)...)
			fleet := c.startFleet(t, 8, 4)
			work, notes := c.startTraffic(t, fleet, "lost"), startBooks(t, c.all, "lost")
			work.progress(t, 100)
			leader := c.leader(t)
			lost := c.except(leader)[0]
			kill(t, lost)
			loseDisk(t, lost)
			work.progress(t, 100)
			began := time.Now()
			c.restart(t, lost)
			c.awaitVoters(t)
			t.Logf("%s serves and votes again %v after its start", lost.ID, time.Since(began).Round(time.Millisecond))

			// Its vote and its disk are as good as any: it carries the cluster without the other one.
			other := c.except(leader)[1]
			kill(t, other)
			work.progress(t, 100)
			c.restart(t, other)
			notes.stop()
			work.stop()
			work.judge(t)
			notes.judge(t, c.Replicas())
			c.converge(t)
		})
	}
}

// loseDisk empties the data folder of a replica that is down.
func loseDisk(t *testing.T, r *localcluster.Replica) {
	t.Helper()
	if err := os.RemoveAll(r.DataDir); err != nil {
		t.Fatal(err)
	}
}

// awaitVoters waits until every replica sees every one as a voter, once.
func (c *cluster) awaitVoters(t *testing.T) {
	t.Helper()
	until(t, settlePatience, "all replicas vote", func() error {
		for _, r := range c.Replicas() {
			status, err := r.Status(context.Background())
			if err != nil {
				return err
			}
			if len(status.Members) != len(c.Replicas()) {
				return fmt.Errorf("%s knows the members %v", r.ID, status.Members)
			}
			for _, m := range status.Members {
				if m.Suffrage != "voter" {
					return fmt.Errorf("to %s, %s is a %s", r.ID, m.Id, m.Suffrage)
				}
			}
		}
		return nil
	})
}
