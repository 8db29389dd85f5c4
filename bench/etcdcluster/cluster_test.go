package etcdcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

const memberArgument = "etcd-member"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == memberArgument {
		fmt.Fprintln(os.Stderr, Serve(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func startCluster(t *testing.T, c Config) *Cluster {
	t.Helper()
	c.Dir, c.Args = t.TempDir(), []string{memberArgument}
	cluster, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	return cluster
}

func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func leaderOf(t *testing.T, c *Cluster) *Member {
	t.Helper()
	leader, err := c.Leader(patience(t))
	if err != nil {
		t.Fatal(err)
	}
	return leader
}

// put writes through one member, and again until it answers: it may be starting.
func put(t *testing.T, m *Member, key string) {
	t.Helper()
	ctx := patience(t)
	for {
		err := putOnce(ctx, m, key)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("put %s through %s: %v", key, m.ID, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func putOnce(ctx context.Context, m *Member, key string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := m.Conn()
	if err != nil {
		return err
	}
	_, err = etcdserverpb.NewKVClient(conn).Put(ctx, &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte("v")})
	return err
}

func has(t *testing.T, m *Member, key string) bool {
	t.Helper()
	conn, err := m.Conn()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := etcdserverpb.NewKVClient(conn).Range(patience(t), &etcdserverpb.RangeRequest{Key: []byte(key)})
	if err != nil {
		t.Fatalf("get %s from %s: %v", key, m.ID, err)
	}
	return answer.Count == 1
}

// A killed leader is replaced, comes back with its disk, and learns what it missed.
func TestLeaderIsKilledAndComesBack(t *testing.T) {
	c := startCluster(t, Config{Heartbeat: 20 * time.Millisecond, Election: 200 * time.Millisecond})
	old := leaderOf(t, c)
	put(t, old, "before")
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	if old.Running() || old.PID() != 0 {
		t.Fatalf("%s runs after SIGKILL, as %d", old.ID, old.PID())
	}
	next := leaderOf(t, c)
	if next == old {
		t.Fatalf("%s leads, though it is dead", old.ID)
	}
	put(t, next, "meanwhile")
	if err := old.Start(); err != nil {
		t.Fatal(err)
	}
	put(t, old, "after")
	for _, key := range []string{"before", "meanwhile", "after"} {
		if !has(t, old, key) {
			t.Errorf("%s does not have %q after it came back", old.ID, key)
		}
	}
}

func TestStoppedLeaderIsReplacedAndFollows(t *testing.T) {
	c := startCluster(t, Config{Heartbeat: 20 * time.Millisecond, Election: 200 * time.Millisecond})
	old := leaderOf(t, c)
	if err := old.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if next := leaderOf(t, c); next == old || !old.Running() {
		t.Fatalf("%s leads, stopped is %s (running %v)", next.ID, old.ID, old.Running())
	}
	if err := old.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	put(t, old, "through the one that was stopped")
}

func TestMembersReachEachOtherAtWhatTheyAdvertise(t *testing.T) {
	unreachable := errors.New("nothing in between")
	if _, err := New(Config{Dir: t.TempDir(), PeerAddr: func(string, string) (string, error) { return "", unreachable }}); !errors.Is(err, unreachable) {
		t.Errorf("New gives %v, want the error of PeerAddr", err)
	}
	advertised := make(map[string]string)
	c := startCluster(t, Config{PeerAddr: func(id, listen string) (string, error) {
		advertised[id] = listen
		return listen, nil
	}})
	for _, m := range c.Members() {
		if advertised[m.ID] != m.PeerAddr {
			t.Errorf("%s listens on %s, PeerAddr was told %s", m.ID, m.PeerAddr, advertised[m.ID])
		}
	}
	put(t, leaderOf(t, c), "with etcd's own timers")
}

func TestTimersThatEtcdRefuses(t *testing.T) {
	for _, c := range []Config{
		{Heartbeat: 100 * time.Millisecond, Election: 400 * time.Millisecond}, // less than 5 heartbeats
		{Heartbeat: 1500 * time.Microsecond},
		{Election: -time.Second},
	} {
		c.Dir = t.TempDir()
		if _, err := New(c); err == nil {
			t.Errorf("a heartbeat of %v and an election of %v were accepted", c.Heartbeat, c.Election)
		}
	}
}
