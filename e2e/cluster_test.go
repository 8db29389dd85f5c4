package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/localcluster"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	"github.com/conclave-rtc/conclave/sim"
)

const (
	// runPatience is how long a command, or a replica that must refuse, may take to end.
	runPatience = 20 * time.Second
	// settlePatience is how long the cluster may take to be whole again: what a busy machine
	// needs, not what is promised.
	settlePatience = 30 * time.Second
	pollInterval   = 10 * time.Millisecond
)

// quickNodes are intervals that let a test see nodes report, and fall silent.
var quickNodes = []string{"--load-report-interval", "1s", "--stale-after", "4s"}

// cluster is three replicas with a folder of their own.
type cluster struct {
	*localcluster.Cluster
	dir string
	// all is a client of all replicas.
	all *sim.Cluster
}

// startCluster starts three replicas with further flags of serve, and waits until they serve. They
// are stopped when the test ends; a test that failed shows the ends of their logs and keeps the
// folder.
func startCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	return startReplicas(t, binary, 3, args...)
}

func startReplicas(t *testing.T, binary string, n int, args ...string) *cluster {
	t.Helper()
	dir := keptFolder(t)
	replicas, err := localcluster.New(localcluster.Config{Binary: binary, Replicas: n, Dir: dir, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		replicas.Stop()
		if t.Failed() {
			for _, r := range replicas.Replicas() {
				t.Logf("the end of the log of %s:\n%s", r.ID, tail(r.LogPath, 40))
			}
		}
	})
	if err := replicas.Start(); err != nil {
		t.Fatal(err)
	}
	c := &cluster{Cluster: replicas, dir: dir, all: dial(t, replicas.Targets())}
	for _, r := range c.Replicas() {
		c.awaitReady(t, r)
	}
	return c
}

// keptFolder is a folder that outlives a test that failed.
func keptFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "conclave-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data folders and logs are kept in %s", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(string(data), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

func dial(t *testing.T, targets string) *sim.Cluster {
	t.Helper()
	c, err := sim.Dial(targets, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// patience is a context that ends with the test, or earlier.
func patience(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// until polls until the condition holds, and fails the test when it does not in time.
func until(t *testing.T, d time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(d)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, d, err)
		}
		<-time.After(pollInterval)
	}
}

func (c *cluster) leader(t *testing.T) *localcluster.Replica {
	t.Helper()
	r, err := c.Leader(patience(t, settlePatience))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitAnnounced waits until every replica has announced itself: none of them writes by itself any more.
func (c *cluster) awaitAnnounced(t *testing.T, at *localcluster.Replica) {
	t.Helper()
	until(t, settlePatience, "every replica has announced itself", func() error {
		status, err := at.Status(t.Context())
		if err != nil {
			return err
		}
		for _, m := range status.Members {
			if m.GrpcAddress == "" {
				return fmt.Errorf("%s has not", m.Id)
			}
		}
		return nil
	})
}

// except returns the replicas but one.
func (c *cluster) except(r *localcluster.Replica) []*localcluster.Replica {
	var others []*localcluster.Replica
	for _, other := range c.Replicas() {
		if other != r {
			others = append(others, other)
		}
	}
	return others
}

// awaitReady waits until a replica can serve a linearizable read: it has caught up.
func (c *cluster) awaitReady(t *testing.T, r *localcluster.Replica) {
	t.Helper()
	until(t, settlePatience, r.ID+" is ready", func() error {
		if !r.Running() {
			t.Fatalf("%s has ended: %v\n%s", r.ID, r.Wait(), tail(r.LogPath, 20))
		}
		code, body, err := httpGet("http://" + r.HTTPAddr + "/health/ready")
		if err == nil && code != 200 {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
}

// kill ends replicas at once.
func kill(t *testing.T, replicas ...*localcluster.Replica) {
	t.Helper()
	for _, r := range replicas {
		if err := r.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range replicas {
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

// restart starts replicas that have ended, and waits until all of them serve.
func (c *cluster) restart(t *testing.T, replicas ...*localcluster.Replica) {
	t.Helper()
	for _, r := range replicas {
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range replicas {
		c.awaitReady(t, r)
	}
}

// converge waits until all replicas have been seen at one same index. Replicas that differ in
// state at any index fail the test.
func (c *cluster) converge(t *testing.T) {
	t.Helper()
	seen := make(map[uint64]map[string]string) // state hash by index and replica
	until(t, settlePatience, "the replicas meet at one index", func() error {
		var last []string
		for _, r := range c.Replicas() {
			status, err := r.Status(context.Background())
			if err != nil {
				return err
			}
			index := status.AppliedIndex
			if seen[index] == nil {
				seen[index] = make(map[string]string)
			}
			seen[index][r.ID] = status.StateHash
			for other, hash := range seen[index] {
				if hash != status.StateHash {
					t.Fatalf("%s and %s differ in state at index %d: %s and %s", r.ID, other, index, status.StateHash, hash)
				}
			}
			if len(seen[index]) == len(c.Replicas()) {
				return nil
			}
			last = append(last, fmt.Sprintf("%s at %d", r.ID, index))
		}
		return fmt.Errorf("%s", strings.Join(last, ", "))
	})
}

// logSince returns what a replica has logged after a place, as logSize gave it.
func logSince(t *testing.T, r *localcluster.Replica, from int) string {
	t.Helper()
	data, err := os.ReadFile(r.LogPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(data[from:])
}

func logSize(t *testing.T, r *localcluster.Replica) int { return len(logSince(t, r, 0)) }

// assignments is a client of one replica.
func assignments(t *testing.T, r *localcluster.Replica) conclavev1.AssignmentServiceClient {
	t.Helper()
	return conclavev1.NewAssignmentServiceClient(connection(t, r))
}

// connection is to one replica.
func connection(t *testing.T, r *localcluster.Replica) *grpc.ClientConn {
	t.Helper()
	conn, err := r.Conn()
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// join joins a meeting at one replica, and tries again while the cluster is not able to.
func join(t *testing.T, r *localcluster.Replica, meeting string) *conclavev1.Assignment {
	t.Helper()
	var joined *conclavev1.Assignment
	until(t, settlePatience, "join "+meeting+" at "+r.ID, func() error {
		answer, err := assignments(t, r).AssignMeeting(patience(t, runPatience), &conclavev1.AssignMeetingRequest{MeetingId: meeting})
		if err != nil && status.Code(err) != codes.Unavailable {
			t.Fatalf("join %s at %s: %v", meeting, r.ID, err)
		}
		joined = answer.GetAssignment()
		return err
	})
	return joined
}
