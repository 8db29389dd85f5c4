package e2e

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
)

// refusal is a start that must fail.
type refusal struct {
	name string
	args []string // of serve
	code int
	want []string // in what it says
}

// serveArgs are flags of serve with addresses that are free.
func serveArgs(nodeID, dataDir string, more ...string) []string {
	return append([]string{
		"serve", "--node-id", nodeID, "--data-dir", dataDir,
		"--grpc-addr", "127.0.0.1:0", "--raft-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0",
	}, more...)
}

// check wants one line that says why, the exit code, and every file below a folder as it was.
func (r refusal) check(t *testing.T, dir string) {
	t.Helper()
	before := fingerprint(t, dir)
	got := conclave(t, r.args...)
	if got.code != r.code {
		t.Errorf("exit code %d, want %d; it said:\n%s", got.code, r.code, got.stderr)
	}
	message := complaint(t, got.stderr)
	for _, want := range r.want {
		if !strings.Contains(message, want) {
			t.Errorf("it does not say %q:\n%s", want, got.stderr)
		}
	}
	if after := fingerprint(t, dir); !maps.Equal(before, after) {
		t.Errorf("the folder was changed from\n%v\nto\n%v", before, after)
	}
}

// complaint returns the line in which the program says why it ended, and wants no other from it
// but a hint to the help and its log.
func complaint(t *testing.T, stderr string) string {
	t.Helper()
	var found []string
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "conclave: ") {
			found = append(found, line)
		}
	}
	if len(found) != 1 {
		t.Errorf("%d lines say why it ended:\n%s", len(found), stderr)
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic:") {
		t.Errorf("it shows a stack:\n%s", stderr)
	}
	return strings.Join(found, "")
}

// fingerprint is every file and folder below a folder, with what it holds.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	prints := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		prints[path] = entry.Type().String()
		if entry.Type().IsRegular() {
			data, err := os.ReadFile(path)
			prints[path] = fmt.Sprintf("%d bytes, %x", len(data), sha256.Sum256(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return prints
}

func TestRefusesBeforeItBegins(t *testing.T) {
	dir := keptFolder(t)
	data := filepath.Join(dir, "new")
	tokenFile := filepath.Join(dir, "empty-token")
	if err := os.WriteFile(tokenFile, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, r := range []refusal{
		{"no node id", []string{"serve", "--data-dir", data}, 2, []string{"node-id"}},
		{"unknown flag", serveArgs("gc-1", data, "--log-storage", "wal"), 2, []string{"--log-storage"}},
		{"unknown log store", serveArgs("gc-1", data, "--log-store", "paper"), 2, []string{"paper", "bolt or wal"}},
		{"malformed cluster", serveArgs("gc-1", data, "--initial-cluster", "gc-1"), 2, []string{"id=raft-addr"}},
		{"cluster without this node", serveArgs("gc-1", data, "--initial-cluster", "gc-2=127.0.0.1:7952,gc-3=127.0.0.1:7953"), 2,
			[]string{"initial cluster", "gc-1"}},
		{"cluster with another address", serveArgs("gc-1", data, "--initial-cluster", "gc-1=127.0.0.1:7951,gc-2=127.0.0.1:7952"), 2,
			[]string{"initial cluster", "127.0.0.1:7951"}},
		{"every machine's address", serveArgs("gc-1", data, "--grpc-addr", "0.0.0.0:0", "--raft-advertise", "127.0.0.1:7951",
			"--initial-cluster", "gc-1=127.0.0.1:7951,gc-2=127.0.0.1:7952"), 2, []string{"grpc-advertise", "leads every machine to itself"}},
		{"stale before the next report", serveArgs("gc-1", data, "--stale-after", "10s", "--load-report-interval", "10s"), 2,
			[]string{"stale-after", "load-report-interval"}},
		{"no time to find a leader", serveArgs("gc-1", data, "--forward-timeout", "0s"), 2, []string{"forward-timeout"}},
		{"lease longer than the heartbeat timeout", serveArgs("gc-1", data, "--raft-leader-lease", "1s"), 2, []string{"lease"}},
		{"election shorter than a heartbeat", serveArgs("gc-1", data, "--raft-election-timeout", "10ms"), 2, []string{"ElectionTimeout"}},
		{"no token file", serveArgs("gc-1", data, "--mc-token-file", filepath.Join(dir, "none")), 1, []string{"mc-token-file", "none"}},
		{"empty token file", serveArgs("gc-1", data, "--mc-token-file", tokenFile), 1, []string{"mc-token-file", "empty"}},
	} {
		t.Run(r.name, func(t *testing.T) { r.check(t, dir) })
	}
}

func TestRefusesAnothersDataFolder(t *testing.T) {
	c := startReplicas(t, binary, 1, "--log-store", "bolt")
	r := c.Replicas()[0]
	// It holds what it has also while it is stopped, and cannot write.
	if err := r.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Run("in use", func(t *testing.T) {
		refusal{args: serveArgs(r.ID, r.DataDir), code: 1, want: []string{r.DataDir, "in use"}}.check(t, r.DataDir)
	})
	t.Run("port in use", func(t *testing.T) {
		other := filepath.Join(c.dir, "other")
		for flag, address := range map[string]string{"grpc-addr": r.GRPCAddr, "raft-addr": r.RaftAddr, "http-addr": r.HTTPAddr} {
			refusal{args: serveArgs("gc-1", other, "--"+flag, address), code: 1,
				want: []string{flag, address, "in use"}}.check(t, c.dir)
		}
	})
	if err := r.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	terminate(t, r)
	for _, refuse := range []refusal{
		{"another node", serveArgs("gc-9", r.DataDir, "--log-store", "bolt"), 1, []string{r.DataDir, `"gc-1"`, `"gc-9"`}},
		{"another log store", serveArgs(r.ID, r.DataDir, "--log-store", "wal"), 1, []string{r.DataDir, "bolt", "wal"}},
	} {
		t.Run(refuse.name, func(t *testing.T) { refuse.check(t, r.DataDir) })
	}
	for name, content := range map[string]string{
		"empty": "", "cut": `{"format": 1, "node_`, "other": `[]`, "without its instance": `{"format": 2, "node_id": "gc-1", "log_store": "bolt", "joined": true}`, "newer": `{"format": 3, "node_id": "gc-1", "log_store": "bolt"}`,
	} {
		t.Run("node.json "+name, func(t *testing.T) { refuseIdentity(t, r, content) })
	}
	c.restart(t, r) // none of it did any harm
}

// refuseIdentity puts something else in the place of node.json for one start.
func refuseIdentity(t *testing.T, r *localcluster.Replica, content string) {
	path := filepath.Join(r.DataDir, "node.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	refusal{args: serveArgs(r.ID, r.DataDir, "--log-store", "bolt"), code: 1, want: []string{r.DataDir}}.check(t, r.DataDir)
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
}
