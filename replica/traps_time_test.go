package replica

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Node liveness measured across machines by wall clock: skew makes healthy nodes stale. Here the
// state was left by a leader whose clock was an hour off: neither may nodes count as silent
// for an hour, nor may one that is silent count as heard for an hour to come.
func TestTrap07ClocksOfOtherMachinesHaveNoPart(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := newCluster(t.TempDir(), 1, withShortSilence)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.close)
			leaveState(t, c.members[0], time.Now().Add(skew), "mh-1", "mh-2")
			began := time.Now()
			if err := c.start(); err != nil {
				t.Fatal(err)
			}
			c.waitReady(t)
			mh{id: "mh-2", region: "s"}.report(t, c.leader(t))
			for time.Since(began) < testStaleAfter {
				asked := time.Now()
				if got := c.leader(t).handlerHealth(t, "mh-1"); got != darktowerv1.HealthStatus_HEALTHY && asked.Sub(began) < testStaleAfter {
					t.Fatalf("it is %v after %v", got, time.Since(began))
				}
				<-time.After(pollInterval)
			}
			c.becomes(t, darktowerv1.HealthStatus_UNHEALTHY, []string{"mh-1", "mh-2"}, nil)
		})
	}
}

// leaveState gives a replica a snapshot in which media handlers reported at a time.
func leaveState(t *testing.T, m *member, at time.Time, handlers ...string) {
	t.Helper()
	entry := &commandv1.Entry{StampUnixMs: at.UnixMilli()}
	for i, id := range handlers {
		entry.Commands = append(entry.Commands,
			&commandv1.Command{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
				Kind: fsm.MediaHandler, Id: id, Region: "s", Capacity: 10, RegistrationId: uint64(i + 1)}}},
			&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
				Kind: fsm.MediaHandler, Id: id, Health: fsm.Healthy}}})
	}
	data, err := fsm.EncodeEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	machine := fsm.NewMachine(nil)
	if _, err := machine.Apply([]fsm.Entry{{Index: 5, Term: 2, Data: data}}); err != nil {
		t.Fatal(err)
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(m.config.DataDir, 1, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	servers := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(m.id()), Address: raft.ServerAddress(m.addrs[1])}}}
	_, addresses := raft.NewInmemTransport("")
	sink, err := store.Create(raft.SnapshotVersionMax, 5, 2, servers, 1, addresses)
	if err != nil {
		t.Fatal(err)
	}
	// An empty log behind the snapshot, and the word that all of this is the replica's own.
	log, err := raftboltdb.NewBoltStore(filepath.Join(m.config.DataDir, "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	m.config.LogStore = raftnode.LogStoreBolt
	identity := fmt.Sprintf(`{"format": 1, "node_id": %q, "log_store": "bolt"}`, m.id())
	if err := errors.Join(
		fsm.WriteSnapshot(sink, machine.Snapshot()), sink.Close(), log.Close(),
		os.WriteFile(filepath.Join(m.config.DataDir, "node.json"), []byte(identity), 0o600),
	); err != nil {
		t.Fatal(err)
	}
}

// Liveness that depends on quorum: seven minutes without a store became fifty-three minutes down.
func TestTrap08LossOfQuorumLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, withShortSilence, withForwardTimeout)
	mc := c.addRegion(t, "s")
	handlers := []string{"s-mh-1", "s-mh-2"}
	a := c.follower(t).join(t, "s", "m").Assignment
	left := c.leader(t)
	for _, m := range c.members {
		if m != left {
			m.kill()
		}
	}
	// Nobody can report, for longer than anybody may be silent.
	for began := time.Now(); time.Since(began) < testStaleAfter+testStaleAfter/2; <-time.After(pollInterval) {
		if code, body := left.get(t, "/health/live"); code != 200 {
			t.Fatalf("/health/live: %d %s", code, body)
		}
	}
	for _, m := range c.members {
		if m != left {
			m.restart(t)
		}
	}
	c.leader(t)
	for _, id := range handlers {
		if got := left.handlerHealth(t, id); got != darktowerv1.HealthStatus_HEALTHY {
			t.Errorf("%s became %v while nobody could report", id, got)
		}
	}
	if again := left.join(t, "s", "m"); again.Created || !sameAssignment(again.Assignment, a) {
		t.Errorf("the running meeting is %v now, want %v", again, a)
	}
	if fresh := left.join(t, "s", "new").Assignment; !hosts(mc, fresh) {
		t.Errorf("a new meeting: %v, the controller hosts %v", fresh, mc.Hosted())
	}
}

// Mass expiry right after a failover, because the new leader's table was empty.
func TestTrap09NewLeaderGivesEveryoneAFullPeriod(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, withShortSilence)
	var handlers []string
	for i := range 10 {
		handlers = append(handlers, c.addMH(t, mh{id: fmt.Sprint("mh-", i), region: "s"}).id)
	}
	c.addMC(t, "mc", "s")
	reported := time.Now()
	for time.Since(reported) < testStaleAfter*3/4 {
		<-time.After(pollInterval)
	}
	c.becomes(t, darktowerv1.HealthStatus_HEALTHY, handlers, []string{"mc"})
	c.leader(t).kill()
	killed := time.Now()
	for _, id := range handlers {
		if got := c.leader(t).handlerHealth(t, id); got != darktowerv1.HealthStatus_HEALTHY {
			t.Errorf("%s is %v right after the failover", id, got)
		}
	}
	eventually(t, "the first of them counts as silent", func() error {
		for _, id := range handlers {
			if c.leader(t).handlerHealth(t, id) == darktowerv1.HealthStatus_UNHEALTHY {
				return nil
			}
		}
		return errors.New("all are healthy")
	})
	if grace := time.Since(killed); grace < testStaleAfter {
		t.Errorf("one expired %v after the failover, all have %v", grace, testStaleAfter)
	}
	c.becomes(t, darktowerv1.HealthStatus_UNHEALTHY, handlers, []string{"mc"})
}
