package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// testCluster is a cluster of real replicas in this process: real disks, real sockets.
type testCluster struct {
	members []*member
	// sim is what simulated nodes reach the cluster through: every replica in turn.
	sim  *sim.Cluster
	logs *logBuffer
}

// member is one place in the cluster, whose replica may be up or down.
type member struct {
	config   Config
	addrs    [3]string       // gRPC, Raft, HTTP: kept over restarts
	opened   [3]net.Listener // for the first start
	conn     *grpc.ClientConn
	registry *prometheus.Registry
	replica  *Replica // nil while down
}

// Slower than the defaults: two busy processors and the race detector must not cause elections.
var testTiming = raftnode.Timing{
	HeartbeatTimeout: 400 * time.Millisecond,
	ElectionTimeout:  400 * time.Millisecond,
	LeaderLease:      400 * time.Millisecond,
}

// startCluster starts replicas that end with the test. The changes are made to each
// configuration.
func startCluster(t *testing.T, size int, changes ...func(*Config)) *testCluster {
	t.Helper()
	c, err := newCluster(t.TempDir(), size, changes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("the end of the replicas' logs:\n" + c.logs.tail(20_000))
		}
		c.close()
	})
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	c.waitReady(t)
	return c
}

// newCluster opens the sockets of a cluster and starts nothing yet.
func newCluster(dir string, size int, changes ...func(*Config)) (*testCluster, error) {
	c := &testCluster{logs: new(logBuffer)}
	var servers []raftnode.Server
	var targets []string
	for i := range size {
		m := &member{config: Default()}
		for j := range m.opened {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, fmt.Errorf("open a port for the test: %w", err)
			}
			m.opened[j], m.addrs[j] = l, l.Addr().String()
		}
		id := fmt.Sprintf("gc-%d", i+1)
		m.config.NodeID, m.config.DataDir = id, filepath.Join(dir, id)
		m.config.Version = "test"
		m.config.Timing = testTiming
		m.config.MCTimeout = time.Second
		m.config.Logger = newLogger(c.logs, false)
		m.config.Fatal = func(err error) { panic(fmt.Errorf("%s: %w", id, err)) }
		conn, err := grpc.NewClient("passthrough:///"+m.addrs[0],
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: time.Second,
			}))
		if err != nil {
			return nil, fmt.Errorf("prepare a connection to %s: %w", id, err)
		}
		m.conn = conn
		servers = append(servers, raftnode.Server{ID: id, RaftAddress: m.addrs[1]})
		targets = append(targets, m.addrs[0])
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		m.config.InitialCluster = servers
		for _, change := range changes {
			change(&m.config)
		}
	}
	var err error
	c.sim, err = sim.Dial(strings.Join(targets, ","), 0)
	return c, err
}

func newLogger(to io.Writer, json bool) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "conclave", Level: hclog.Trace, Output: to, JSONFormat: json})
}

func (c *testCluster) start() error {
	for _, m := range c.members {
		if err := m.start(); err != nil {
			return err
		}
	}
	return nil
}

func (c *testCluster) close() {
	for _, m := range c.members {
		m.kill()
		_ = m.conn.Close()
	}
	_ = c.sim.Close()
}

// start starts the replica at its addresses, on its disk.
func (m *member) start() error {
	config := m.config
	for i, into := range []*net.Listener{&config.GRPCListener, &config.RaftListener, &config.HTTPListener} {
		l, err := m.listen(i)
		if err != nil {
			return err
		}
		*into = l
	}
	m.registry = prometheus.NewRegistry()
	r, err := Start(config, m.registry)
	if err != nil {
		return fmt.Errorf("start %s: %w", config.NodeID, err)
	}
	m.replica = r
	return nil
}

// listen opens an address again. Another connection of this machine may hold the port for a
// moment as its own end.
func (m *member) listen(i int) (net.Listener, error) {
	if l := m.opened[i]; l != nil {
		m.opened[i] = nil
		return l, nil
	}
	deadline := time.Now().Add(patience)
	for {
		l, err := net.Listen("tcp", m.addrs[i])
		if err == nil || time.Now().After(deadline) {
			return l, err
		}
		<-time.After(pollInterval)
	}
}

// kill stops the replica as a crash would: nothing is handed over, no answer goes out any more.
func (m *member) kill() {
	r := m.replica
	if r == nil {
		return
	}
	m.replica = nil
	_ = r.listeners.close()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		now, cancel := context.WithCancel(context.Background())
		cancel()
		r.server.Stop(now)
	}()
	_ = r.node.Shutdown()
	<-stopped
	_ = r.http.Close()
	r.controllers.Close()
}

// stop stops the replica as an operator would.
func (m *member) stop(t *testing.T) {
	t.Helper()
	r := m.replica
	m.replica = nil
	if err := r.Stop(t.Context()); err != nil {
		t.Fatalf("stopping %s: %v", m.config.NodeID, err)
	}
}

func (m *member) restart(t *testing.T) {
	t.Helper()
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
}

func (m *member) id() string { return m.config.NodeID }

// up are the members whose replicas run.
func (c *testCluster) up() []*member {
	var up []*member
	for _, m := range c.members {
		if m.replica != nil {
			up = append(up, m)
		}
	}
	return up
}

// leader waits for a leader that is ready to serve as one.
func (c *testCluster) leader(t *testing.T) *member {
	t.Helper()
	var leader *member
	eventually(t, "there is a leader", func() error {
		for _, m := range c.up() {
			if m.replica.node.Leading() != nil {
				leader = m
				return nil
			}
		}
		return errors.New("no replica leads")
	})
	return leader
}

// follower is a running replica that does not lead.
func (c *testCluster) follower(t *testing.T) *member { return c.followers(t)[0] }

func (c *testCluster) followers(t *testing.T) []*member {
	t.Helper()
	leader := c.leader(t)
	var others []*member
	for _, m := range c.up() {
		if m != leader {
			others = append(others, m)
		}
	}
	return others
}

// waitReady waits until every running replica serves reads and is known to the others.
func (c *testCluster) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, "all replicas are ready", func() error {
		for _, m := range c.up() {
			if err := m.replica.server.Ready(t.Context()); err != nil {
				return fmt.Errorf("%s: %w", m.id(), err)
			}
			if !m.replica.node.Announced() {
				return fmt.Errorf("%s has not announced itself", m.id())
			}
			// A connection that was refused while the replica was down waits before it dials again.
			_, err := healthv1.NewHealthClient(m.conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			if err != nil {
				return fmt.Errorf("%s: %w", m.id(), err)
			}
		}
		return nil
	})
}

// theShared cluster serves the tests that do not disturb each other: each uses regions and ids
// of its own. They run one at a time.
var theShared struct {
	*testCluster
	dir   string
	users map[string]bool // the tests it has served
}

// shared returns the shared cluster: a new one when this test has left its traces in the one
// that there is, as it has when tests are repeated.
func shared(t *testing.T) *testCluster {
	t.Helper()
	if theShared.users[t.Name()] {
		theShared.close()
		if err := startShared(); err != nil {
			t.Fatal(err)
		}
	}
	theShared.users[t.Name()] = true
	theShared.waitReady(t)
	return theShared.testCluster
}

func startShared() error {
	dir, err := os.MkdirTemp(theShared.dir, "")
	if err != nil {
		return fmt.Errorf("make a folder for the shared cluster: %w", err)
	}
	theShared.users = make(map[string]bool)
	if theShared.testCluster, err = newCluster(dir, 3); err != nil {
		return err
	}
	return theShared.start()
}

func TestMain(m *testing.M) {
	var err error
	theShared.dir, err = os.MkdirTemp("", "replica-test-")
	if err == nil {
		err = startShared()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the shared cluster:", err)
		os.Exit(1)
	}
	code := m.Run()
	theShared.close()
	_ = os.RemoveAll(theShared.dir)
	os.Exit(code)
}

const (
	patience     = 20 * time.Second
	pollInterval = 10 * time.Millisecond
)

// eventually waits until a condition holds, which returns why it does not yet.
func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v until %s: %v", patience, what, err)
		}
		<-time.After(pollInterval)
	}
}

// logBuffer keeps all that the replicas log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) tail(bytes int) string {
	text := b.String()
	return text[max(0, len(text)-bytes):]
}
