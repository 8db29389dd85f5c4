package localcluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// quickReconnect suits servers on this machine that are killed and restarted all the time.
var quickReconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// Replica is one process, over all of its restarts. Its methods may be called from several
// goroutines.
type Replica struct {
	ID       string
	DataDir  string
	LogPath  string
	GRPCAddr string
	RaftAddr string
	HTTPAddr string

	binary string
	args   []string

	mu      sync.Mutex
	process *process
	conn    *grpc.ClientConn
}

// process is one run of a replica.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; to be read after done
}

// Start starts the process, if it does not run. Its output is appended to LogPath. It takes
// further flags of serve.
func (r *Replica) Start(extra ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runningLocked() {
		return nil
	}
	log, err := os.OpenFile(r.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", r.ID, err)
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(r.binary, append(append([]string{}, r.args...), extra...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = apart()
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "CONCLAVE_") // meant for the caller, and the same for every replica
	})
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", r.ID, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	r.process = p
	return nil
}

// Running says whether the process runs (it may be stopped by SIGSTOP).
func (r *Replica) Running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runningLocked()
}

func (r *Replica) runningLocked() bool {
	if r.process == nil {
		return false
	}
	select {
	case <-r.process.done:
		return false
	default:
		return true
	}
}

func (r *Replica) current() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// PID is the process's id, 0 while it does not run.
func (r *Replica) PID() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.runningLocked() {
		return 0
	}
	return r.process.cmd.Process.Pid
}

// Signal sends a signal to the process.
func (r *Replica) Signal(s syscall.Signal) error {
	p := r.current()
	if p == nil {
		return fmt.Errorf("signal %s: it was never started", r.ID)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", r.ID, err)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (r *Replica) Kill() error {
	err := r.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	if p := r.current(); p != nil {
		<-p.done
	}
	return err
}

// Terminate ends the process with SIGTERM, and with SIGKILL when that takes too long. It returns
// how the process ended.
func (r *Replica) Terminate(patience time.Duration) error {
	p := r.current()
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill() // likewise
		<-p.done
	}
	return p.err
}

// Wait waits until the process ends by itself, and returns how.
func (r *Replica) Wait() error {
	p := r.current()
	if p == nil {
		return nil
	}
	<-p.done
	return p.err
}
