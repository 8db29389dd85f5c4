package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a server that runs, on empty disks and with PostgreSQL's own settings but for the
// number of connections.
type Server struct {
	// URL is where to connect.
	URL string

	process *exec.Cmd
	ended   chan struct{} // closed when it has
}

const (
	role         = "bench"
	startTimeout = time.Minute
	stopTimeout  = 20 * time.Second
)

// Find returns the folder of PostgreSQL's programs: that of the path, or the newest of Debian's.
func Find() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // fails only for a bad pattern
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed")
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(majorOf(a), majorOf(b)) })), nil
}

// majorOf reads the version that Debian has in the path: /usr/lib/postgresql/15/bin/postgres.
func majorOf(path string) float64 {
	major, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64) // 0 ranks last
	return major
}

// Version is what the server in a folder of programs says of itself.
func Version(bin string) (string, error) {
	out, err := exec.Command(filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask postgres for its version: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Start makes the folder dir and starts a server on it that takes so many connections. It returns
// when the server answers. As PostgreSQL refuses to run as root, it then runs as somebody else, who
// must be able to enter the folders above dir.
func Start(ctx context.Context, bin, dir string, connections int) (*Server, error) {
	owner, err := notRoot()
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	if err := makeFolder(dir, owner); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-U", role, "--auth=trust", "--encoding=UTF8", "--no-locale")
	initdb.Dir, initdb.SysProcAttr = dir, attributes(owner)
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start postgres: initdb: %w%s", err, lastLine(out))
	}
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	s := &Server{
		URL: fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", role, port),
		process: exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-h", "127.0.0.1", "-p", fmt.Sprint(port),
			"-c", "unix_socket_directories=", "-c", fmt.Sprintf("max_connections=%d", connections)),
		ended: make(chan struct{}),
	}
	s.process.Dir, s.process.SysProcAttr = dir, attributes(owner)
	if err := s.run(ctx, filepath.Join(dir, "log")); err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	return s, nil
}

func (s *Server) run(ctx context.Context, logPath string) error {
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		return err
	}
	go func() {
		_ = s.process.Wait() // how it ended is in its log
		close(s.ended)
	}()
	if err := s.ready(ctx); err != nil {
		s.Stop()
		text, _ := os.ReadFile(logPath) // without it the error says less
		return fmt.Errorf("%w%s", err, lastLine(text))
	}
	return nil
}

// ready waits until the server answers.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("it does not answer"))
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.ended:
			return errors.New("it ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the server, without waiting for connections to end.
func (s *Server) Stop() {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		_ = s.process.Process.Signal(signal) // it may have ended already
		select {
		case <-s.ended:
			return
		case <-time.After(stopTimeout):
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// lastLine is what comes after an error: the last line of a log, if it has any.
func lastLine(text []byte) string {
	trimmed := strings.TrimSpace(string(text))
	if trimmed == "" {
		return ""
	}
	return ": " + trimmed[strings.LastIndexByte(trimmed, '\n')+1:]
}
