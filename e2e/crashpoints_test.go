package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/localcluster/diskfault"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// scriptLength is how many registrations the script of the sweep makes, one after the other.
const scriptLength = 6

// A replica dies at its N-th fsync, for every N of a short script, its first start included, and
// is started again: it comes back, with everything that it acknowledged.
func TestCrashAtEveryFsync(t *testing.T) {
	t.Parallel() // it waits for elections, mostly
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	// strace counts by thread: a point is met by whichever thread makes its N-th call first.
	sweep(t, 3, func(dir string, n int) []string {
		return []string{strace, "-f", "-qq", "-o", "/dev/null",
			"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:signal=KILL:when=" + strconv.Itoa(n), binary}
	})
}

// The same at every write to one of its stores, before and after it is done: exact, and without strace.
func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	breakable := withFaultyDisk(t)
	for name, written := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Term and vote, the founding entries, and the script.
			sweep(t, 8+scriptLength, func(dir string, n int) []string {
				if err := diskfault.Set(dir, diskfault.Fault{After: n - 1, Kill: true, Written: written}); err != nil {
					t.Fatal(err)
				}
				return []string{breakable}
			})
		})
	}
}

// sweep runs the script until it survives its N-th point, which must be beyond least. Program says what
// is run so that it dies there.
func sweep(t *testing.T, least int, program func(dir string, n int) []string) {
	t.Helper()
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), strconv.Itoa(n))
		acknowledged, died := register(t, dir, scriptLength, program(dir, n)...)
		listed := listed(t, dir)
		for _, id := range acknowledged {
			if !listed[id] {
				t.Errorf("killed at point %d: %s was acknowledged and is lost", n, id)
			}
		}
		if !died {
			if n <= least {
				t.Errorf("the script ended before point %d: it has more", n)
			}
			t.Logf("%d crash points", n-1)
			return
		}
	}
}

// register starts a replica by a command, registers handlers until it dies, and ends it.
func register(t *testing.T, dir string, count int, program ...string) (acknowledged []string, died bool) {
	t.Helper()
	api, ended, stop := serveAlone(t, dir, program...)
	defer stop()
	handlers := darktowerv1.NewMediaHandlerRegistryServiceClient(api)
	for i := range count {
		id := fmt.Sprintf("mh-%d", i)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := handlers.RegisterMH(ctx, &darktowerv1.RegisterMHRequest{
			HandlerId: id, Region: "local", MaxStreams: 10, WebtransportEndpoint: "https://" + id, GrpcEndpoint: "grpc://" + id,
		}, grpc.WaitForReady(i == 0))
		cancel()
		if err != nil {
			select {
			case <-ended:
			case <-time.After(settlePatience):
				t.Fatalf("register %s at a replica that lives: %v", id, err)
			}
			return acknowledged, true
		}
		acknowledged = append(acknowledged, id)
	}
	return acknowledged, false
}

// listed starts the replica as it is and reads who is registered.
func listed(t *testing.T, dir string) map[string]bool {
	t.Helper()
	api, _, stop := serveAlone(t, dir, binary)
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

// serveAlone starts a cluster of one by a command that takes the program's arguments. Ended tells
// that it is over, by itself or because stop has ended it.
func serveAlone(t *testing.T, dir string, program ...string) (api *grpc.ClientConn, ended <-chan struct{}, stop func()) {
	t.Helper()
	addrs, err := localcluster.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	args := append(program, "serve", "--node-id", "gc-1", "--data-dir", dir, "--grpc-addr", addrs[0], "--raft-addr", "127.0.0.1:0",
		"--raft-advertise", "127.0.0.1:7950", "--http-addr", "127.0.0.1:0")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		_ = cmd.Wait() // by a signal
		close(over)
	}()
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may be gone
		<-over
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("what was printed by %s:\n%s", strings.Join(args, " "), &output)
		}
	})
	if api, err = grpc.NewClient("passthrough:///"+addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	// A replica that died while it started is never ready: its callers must not wait for it.
	go func() {
		<-over
		api.Close()
	}()
	return api, over, stop
}
