package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// wipe loses the disk of a node that is down.
func (c *testCluster) wipe(i int) {
	c.t.Helper()
	if err := os.RemoveAll(c.configs[i].DataDir); err != nil {
		c.t.Fatal(err)
	}
}

// backUp copies the data folder of a node that is down.
func (c *testCluster) backUp(i int) (copied string) {
	c.t.Helper()
	dir := c.configs[i].DataDir
	if err := os.CopyFS(dir+".copy", os.DirFS(dir)); err != nil {
		c.t.Fatal(err)
	}
	return dir + ".copy"
}

func (c *testCluster) awaitLog(i int, line string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("gc-%d says %q", i+1, line), func() bool { return strings.Contains(c.logs[i].String(), line) })
}

// whole waits until every node is a voter under one server id, in the eyes of all, and has applied
// the same.
func (c *testCluster) whole() {
	c.t.Helper()
	eventually(c.t, "all nodes vote", func() bool {
		for _, n := range c.nodes {
			members := n.Status().Members
			if len(members) != len(c.nodes) || n.Leader() == "" {
				return false
			}
			for _, m := range members {
				if !m.Voter {
					return false
				}
			}
		}
		return true
	})
	sameHash(c.t, c)
}

// others are the nodes but one.
func (c *testCluster) others(than int) (a, b int) {
	return (than + 1) % 3, (than + 2) % 3
}

// met waits until nodes with new folders have asked each other.
func (c *testCluster) met(i, j int) {
	c.t.Helper()
	asked := func(by, of int) bool {
		_, known := c.nodes[of].met.Load(c.nodes[by].dir.self().serverID())
		return known
	}
	eventually(c.t, "two new nodes ask each other", func() bool { return asked(i, j) && asked(j, i) })
}

func (c *testCluster) notJoined(nodes ...int) {
	c.t.Helper()
	for _, i := range nodes {
		if c.nodes[i].dir.self().Joined || c.nodes[i].running() != nil {
			c.t.Fatalf("gc-%d has begun without all others", i+1)
		}
	}
}

// A first start needs no order, and begins once the last one is there.
func TestFirstStartWaitsForTheLastOne(t *testing.T) {
	for late := range 3 {
		t.Run(fmt.Sprintf("gc-%d is late", late+1), func(t *testing.T) {
			t.Parallel()
			c := newStoppedCluster(t, 3, LogStoreWAL)
			a, b := c.others(late)
			c.start(a)
			c.start(b)
			c.met(a, b)
			c.notJoined(a, b)
			c.awaitLog(a, "waiting until all replicas of the initial cluster have answered")
			c.start(late)
			c.leader()
			c.whole()
			for _, n := range c.nodes {
				if cluster := n.dir.self().Cluster; cluster == "" || cluster != c.nodes[0].dir.self().Cluster {
					t.Errorf("%s belongs to cluster %q, %s to %q", n.ID(), cluster, c.nodes[0].ID(), c.nodes[0].dir.self().Cluster)
				}
			}
		})
	}
}

// A replica that is started anew with an empty folder is a voter again, without an operator.
func TestALostFolderIsReplaced(t *testing.T) {
	for name, bySnapshot := range map[string]bool{"by the log": false, "by a snapshot": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newStoppedCluster(t, 3, LogStoreBolt)
			for i := range c.configs {
				c.configs[i].Retention.TrailingLogs = 1
				c.start(i)
			}
			leader := c.leader()
			c.propose(leader, "before")
			lost, other := c.others(leader)
			c.stop(lost)
			c.wipe(lost)
			c.propose(leader, "meanwhile")
			if bySnapshot {
				if err := c.nodes[leader].raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
			c.start(lost)
			c.whole()
			if installed := strings.Contains(c.logs[lost].String(), "Installed remote snapshot"); installed != bySnapshot {
				t.Errorf("it got a snapshot: %v", installed)
			}
			if !has(c.nodes[lost], "before") || !has(c.nodes[lost], "meanwhile") {
				t.Error("it has not all that was acknowledged")
			}
			// Its vote counts: with it alone the leader goes on, and it remembers over a restart.
			c.stop(other)
			c.propose(c.leader(), "after")
			c.stop(lost)
			c.start(lost)
			c.start(other)
			c.whole()
			c.propose(c.leader(), "at last")
			sameHash(t, c)
		})
	}
}

// Two replicas acknowledge an entry. One of them loses its disk. With the third, which lags, it is a
// majority that has never heard of the entry: they must not lead.
func TestALostFolderDoesNotVote(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreWAL)
	keeps := c.leader()
	lost, lags := c.others(keeps)
	c.whole()
	c.stop(lags)
	c.propose(keeps, "acknowledged")
	c.stop(lost)
	c.wipe(lost)
	c.stop(keeps)

	c.start(lags)
	c.start(lost)
	// The one that lags asks for votes, and the one that forgot hears it.
	c.awaitLog(lost, "it has no vote before the leader admits it")
	c.awaitLog(lags, "waiting for a majority of the replicas")
	c.awaitLog(lost, "waiting for its leader to admit it")
	for _, i := range []int{lags, lost} {
		if n := c.nodes[i]; n.Leader() != "" || n.Leading() != nil {
			t.Fatalf("%s leads without what was acknowledged", n.Leader())
		}
	}
	c.notJoined(lost)

	c.start(keeps)
	c.whole()
	for _, n := range c.nodes {
		if !has(n, "acknowledged") {
			t.Errorf("%s lacks what was acknowledged", n.ID())
		}
	}
	c.propose(c.leader(), "after")
}

// Two lost disks of three may have had the only copies of something: a majority that has forgotten
// must not begin anew, neither alone nor beside the one that has not.
func TestALostMajorityDoesNotGoOn(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	keeps := c.leader()
	a, b := c.others(keeps)
	c.whole()
	c.propose(keeps, "acknowledged")
	for i := range c.nodes {
		c.stop(i)
	}
	copied := c.backUp(a)
	c.wipe(a)
	c.wipe(b)

	c.start(a)
	c.start(b)
	c.met(a, b)
	c.awaitLog(a, "waiting until all replicas")
	c.awaitLog(b, "waiting until all replicas")
	c.notJoined(a, b)
	c.start(keeps)
	for i := range c.nodes {
		c.awaitLog(i, "the cluster has lost its majority")
	}
	c.notJoined(a, b)

	c.stop(a)
	c.wipe(a)
	if err := os.Rename(copied, c.configs[a].DataDir); err != nil {
		t.Fatal(err)
	}
	c.start(a)
	c.whole()
	for _, n := range c.nodes {
		if !has(n, "acknowledged") {
			t.Errorf("%s lacks what was acknowledged", n.ID())
		}
	}
}

// A folder whose place another one has taken is told so, and ends.
func TestAFolderThatWasReplacedEnds(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	lost, _ := c.others(c.leader())
	c.whole()
	c.stop(lost)
	copied := c.backUp(lost)
	c.wipe(lost)
	c.start(lost)
	c.whole()

	old := newStoppedCluster(t, 1, LogStoreBolt) // of the same name, somewhere else
	at := old.configs[0].RaftAddress
	old.configs[0] = c.configs[lost]
	old.configs[0].Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Debug, Output: old.logs[0]})
	old.configs[0].Fatal = func(err error) { old.fatal <- err }
	old.configs[0].RaftAddress, old.configs[0].RaftAdvertise = at, at
	old.configs[0].DataDir = filepath.Join(t.TempDir(), "old")
	if err := os.Rename(copied, old.configs[0].DataDir); err != nil {
		t.Fatal(err)
	}
	old.start(0)
	if err := <-old.fatal; !strings.Contains(err.Error(), "is no longer that of") {
		t.Errorf("it ended with %v", err)
	}
	old.stop(0)
	select { // it may have said so twice before it was stopped
	case <-old.fatal:
	default:
	}
	c.whole()
}

// A second process of a name waits while the first one runs, and takes nothing from it.
func TestASecondReplicaOfTheSameNameWaits(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreBolt)
	c.leader()
	c.whole()
	second := newStoppedCluster(t, 1, LogStoreBolt)
	second.configs[0].NodeID = "gc-2"
	second.configs[0].InitialCluster = []Server{c.configs[0].InitialCluster[0],
		{"gc-2", second.configs[0].RaftAdvertise}, c.configs[0].InitialCluster[2]}
	second.start(0)
	second.awaitLog(0, "another gc-2 is running at "+c.configs[1].RaftAdvertise)
	second.notJoined(0)
	c.whole()
}

// A data folder of another cluster, at an address of this one, gets no say here.
func TestAnotherClustersFolderIsRefused(t *testing.T) {
	t.Parallel()
	ours, theirs := newTestCluster(t, 3, LogStoreBolt), newTestCluster(t, 3, LogStoreBolt)
	leader := ours.leader()
	ours.whole()
	theirs.leader()
	theirs.whole()
	i, _ := ours.others(leader)
	ours.stop(i)
	theirs.stop(i)
	own := ours.configs[i].DataDir
	ours.configs[i].DataDir = theirs.configs[i].DataDir
	ours.start(i)
	// Each side says what is wrong, and nobody takes anything from the other.
	ours.awaitLog(i, "an address or a data folder of the other cluster")
	ours.awaitLog(leader, "an address or a data folder of the other cluster")
	ours.propose(leader, "ours")
	if has(ours.nodes[i], "ours") {
		t.Error("a replica of another cluster got our log")
	}
	ours.stop(i)
	ours.configs[i].DataDir = own
	ours.start(i)
	theirs.start(i)
	ours.whole()
	theirs.whole()
}

// Folders that were made before there were instances go on as they are, and are replaced like others.
func TestFoldersWithoutInstances(t *testing.T) {
	t.Parallel()
	c := newStoppedCluster(t, 3, LogStoreBolt)
	for i := range c.configs {
		c.writeOldFolder(i)
		c.start(i)
	}
	leader := c.leader()
	c.propose(leader, "before")
	c.whole()
	lost, _ := c.others(leader)
	c.stop(lost)
	c.wipe(lost)
	c.start(lost)
	c.whole()
	if !has(c.nodes[lost], "before") {
		t.Error("the new folder lacks what was acknowledged")
	}
	if id := c.nodes[lost].dir.self().serverID(); !hasInstance(id) {
		t.Errorf("a folder that was made anew is %s again", id)
	}
}

// writeOldFolder makes a folder as it was bootstrapped before there were instances.
func (c *testCluster) writeOldFolder(i int) {
	c.t.Helper()
	config := &c.configs[i]
	stores, err := openStoresIn(config)
	if err != nil {
		c.t.Fatal(err)
	}
	var first raft.Configuration
	for _, s := range config.InitialCluster {
		first.Servers = append(first.Servers, raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.RaftAddress)})
	}
	_, trans := raft.NewInmemTransport("")
	if err := errors.Join(
		raft.BootstrapCluster(config.raftConfig(), stores.log, stores.stable, stores.snapshots, trans, first),
		stores.close(),
	); err != nil {
		c.t.Fatal(err)
	}
	old, err := json.Marshal(identity{Format: formatWithoutInstance, NodeID: config.NodeID, LogStore: config.LogStore})
	if err != nil {
		c.t.Fatal(err)
	}
	write(c.t, config.DataDir, string(old))
}

func openStoresIn(c *Config) (*stores, error) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, err
	}
	return openStores(c.DataDir, c.LogStore, c.Logger, c.Fatal)
}

// Two clusters may call a new replica at the same moment, both when it has not joined yet: it is of the first.
func TestANewReplicaJoinsOneClusterOnly(t *testing.T) {
	c := newTestCluster(t, 1, LogStoreWAL)
	n := c.nodes[c.leader()]
	if err := n.enter(n.dir.self().Cluster); err != nil {
		t.Errorf("a second call of its own cluster: %v", err)
	}
	if err := n.enter("another"); err == nil {
		t.Error("it lets another cluster's Raft in")
	}
}
