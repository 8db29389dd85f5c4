package etcdcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// quickReconnect suits servers on this machine that are killed and restarted all the time.
var quickReconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// Member is one process, over all of its restarts. Its methods may be called from several
// goroutines.
type Member struct {
	ID         string
	LogPath    string
	ClientAddr string // host:port
	PeerAddr   string // host:port on which it listens for the others

	binary string
	args   []string

	mu      sync.Mutex
	process *process
	conn    *grpc.ClientConn
}

// process is one run of a member.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start starts the process, if it does not run. Its output is appended to LogPath.
func (m *Member) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.runningLocked() {
		return nil
	}
	log, err := os.OpenFile(m.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", m.ID, err)
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(m.binary, m.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "ETCD_") // meant for the caller, and the same for every member
	})
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", m.ID, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(p.done)
	}()
	m.process = p
	return nil
}

// Running says whether the process runs (it may be stopped by SIGSTOP).
func (m *Member) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.runningLocked()
}

func (m *Member) runningLocked() bool {
	if m.process == nil {
		return false
	}
	select {
	case <-m.process.done:
		return false
	default:
		return true
	}
}

// PID is the process's id, 0 while it does not run.
func (m *Member) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.runningLocked() {
		return 0
	}
	return m.process.cmd.Process.Pid
}

func (m *Member) current() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process
}

// Signal sends a signal to the process.
func (m *Member) Signal(s syscall.Signal) error {
	p := m.current()
	if p == nil {
		return fmt.Errorf("signal %s: it was never started", m.ID)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", m.ID, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (m *Member) Kill() error {
	err := m.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if p := m.current(); p != nil {
		<-p.done
	}
	return err
}

// statusTimeout bounds one question to a member: it may be stopped.
const statusTimeout = time.Second

// Status asks the member how it is.
func (m *Member) Status(ctx context.Context) (*etcdserverpb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	conn, err := m.Conn()
	if err != nil {
		return nil, err
	}
	return etcdserverpb.NewMaintenanceClient(conn).Status(ctx, &etcdserverpb.StatusRequest{})
}

// Conn returns the connection to the member. It outlives restarts of the member, and is closed by
// the cluster's Stop.
func (m *Member) Conn() (*grpc.ClientConn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		conn, err := grpc.NewClient("passthrough:///"+m.ClientAddr,
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(quickReconnect))
		if err != nil {
			return nil, fmt.Errorf("connect to %s: %w", m.ID, err)
		}
		m.conn = conn
	}
	return m.conn, nil
}

func (m *Member) closeConn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		_ = m.conn.Close() // fails only if it is closed already
		m.conn = nil
	}
}
