package raftnode

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// spoil flips a bit wherever a text is in the write-ahead log of a node that is down.
func (c *testCluster) spoil(i int, text string) {
	c.t.Helper()
	segments, err := filepath.Glob(filepath.Join(c.configs[i].DataDir, walFolder, "*.wal"))
	if err != nil {
		c.t.Fatal(err)
	}
	found := false
	for _, name := range segments {
		data, err := os.ReadFile(name)
		if err != nil {
			c.t.Fatal(err)
		}
		if at := bytes.Index(data, []byte(text)); at >= 0 {
			found = true
			data[at] ^= 1
			if err := os.WriteFile(name, data, 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	if !found {
		c.t.Fatalf("%q is not in the log of gc-%d", text, i+1)
	}
}

// A leader with a damaged entry in its log that its snapshot covers gives that to a new disk: neither the
// start nor anything else had to read the entry before.
func TestAnOldDamagedEntryIsNotNeeded(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3, LogStoreWAL)
	leader := c.leader()
	c.propose(leader, "mh-needle")
	c.propose(leader, "mh-last") // a store drops a damaged end by itself
	c.whole()
	for i, n := range c.nodes {
		eventually(t, "it is applied", func() bool { return has(n, "mh-needle") })
		if err := n.raft.Snapshot().Error(); err != nil {
			t.Fatalf("snapshot of gc-%d: %v", i+1, err)
		}
	}
	for i := range c.nodes {
		c.stop(i)
	}
	lost := 2
	c.wipe(lost)
	for i := range c.nodes {
		if i != lost {
			c.spoil(i, "mh-needle")
		}
		c.start(i)
	}
	c.whole()
	if !has(c.nodes[lost], "mh-needle") {
		t.Error("the new disk lacks what the snapshot has")
	}
}

func TestWhatCannotBeReadOfTheLog(t *testing.T) {
	damaged := func(*raft.Log) {}
	for _, c := range []struct {
		what    string
		index   uint64
		running bool
		missing bool // raft is told that it is not there
		ends    bool // the process does
	}{
		{what: "covered by a snapshot", index: 5, running: true, missing: true},
		{what: "not covered", index: 6, running: true, ends: true},
		{what: "at the start, which says so itself", index: 6},
		{what: "not there at all", index: 99, running: true, missing: true},
	} {
		t.Run(c.what, func(t *testing.T) {
			store := raft.NewInmemStore() // its entries have no checksum
			if err := store.StoreLogs([]*raft.Log{{Index: 5}, {Index: 6}}); err != nil {
				t.Fatal(err)
			}
			var fatal error
			l := &durableLog{LogStore: &checkedLog{&spoiledStore{store, damaged}}, log: hclog.NewNullLogger(),
				covered: func() uint64 { return 5 }, fatal: func(err error) { fatal = err }}
			l.running.Store(c.running)
			err := l.GetLog(c.index, new(raft.Log))
			if err == nil || errors.Is(err, raft.ErrLogNotFound) != c.missing || (fatal != nil) != c.ends {
				t.Errorf("got %v, ended with %v", err, fatal)
			}
		})
	}
}
