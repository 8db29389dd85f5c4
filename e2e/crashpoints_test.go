package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// scriptLength is how many registrations the script of the sweep makes, one after the other.
const scriptLength = 6

// A replica dies at its N-th fsync, for every N of a short script, its first start included, and
// is started again: it comes back, with everything that it acknowledged.
func TestCrashAtEveryFsync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), strconv.Itoa(n))
		// strace counts by thread: a point is met by whichever thread makes its N-th call first.
		acknowledged, died := register(t, dir, scriptLength, strace, "-f", "-qq", "-o", "/dev/null",
			"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:signal=KILL:when="+strconv.Itoa(n))
		listed := listed(t, dir)
		for _, id := range acknowledged {
			if !listed[id] {
				t.Errorf("killed at fsync %d: %s was acknowledged and is lost", n, id)
			}
		}
		if !died {
			if n < 3 {
				t.Errorf("the script ended before fsync %d: nothing was tried", n)
			}
			t.Logf("%d crash points", n-1)
			return
		}
	}
}

// register starts a replica under a command, registers handlers until it dies, and ends it.
func register(t *testing.T, dir string, count int, under ...string) (acknowledged []string, died bool) {
	t.Helper()
	api, stop := serveAlone(t, dir, under...)
	handlers := darktowerv1.NewMediaHandlerRegistryServiceClient(api)
	for i := range count {
		id := fmt.Sprintf("mh-%d", i)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := handlers.RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
			HandlerId: id, Region: "local", MaxStreams: 10, WebtransportEndpoint: "https://" + id, GrpcEndpoint: "grpc://" + id,
		}, grpc.WaitForReady(i == 0))
		cancel()
		if err != nil {
			break
		}
		acknowledged = append(acknowledged, id)
	}
	return acknowledged, stop()
}

// listed starts the replica as it is and reads who is registered.
func listed(t *testing.T, dir string) map[string]bool {
	t.Helper()
	api, stop := serveAlone(t, dir)
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), settlePatience)
	defer cancel()
	resp, err := conclavev1.NewRegistryServiceClient(api).ListMediaHandlers(ctx,
		&conclavev1.ListMediaHandlersRequest{PageSize: 1000}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatalf("read what %s has: %v", dir, err)
	}
	ids := make(map[string]bool)
	for _, mh := range resp.MediaHandlers {
		ids[mh.HandlerId] = true
	}
	return ids
}

// serveAlone starts a cluster of one, under a command if one is given. Stop ends it, and says
// whether it had ended by itself.
func serveAlone(t *testing.T, dir string, under ...string) (api *grpc.ClientConn, stop func() (died bool)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	args := append(under, binary, "serve", "--node-id", "gc-1", "--data-dir", dir, "--grpc-addr", addr, "--raft-addr", "127.0.0.1:0",
		"--raft-advertise", "127.0.0.1:7950", "--http-addr", "127.0.0.1:0")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // by a signal
		close(ended)
	}()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // it may be gone
	if api, err = grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	// A replica that died while it started is never ready: its callers must not wait for it.
	go func() {
		<-ended
		api.Close()
	}()
	return api, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may be gone
		<-ended
		return false
	}
}
