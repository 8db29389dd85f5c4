package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
)

// A replica whose disk lost or changed something refuses to start and says so, or gets what it
// lacks from the others. It never serves what was damaged.
func TestDamagedDataFolder(t *testing.T) {
	for _, store := range []string{"bolt", "wal"} {
		t.Run(store, func(t *testing.T) {
			c := startCluster(t, append(frequentSnapshots, "--log-store", store)...)
			newReporter(c.all).untilNewSnapshots(t, c.Replicas())
			for name, damage := range damages(store) {
				t.Run(name, func(t *testing.T) { startDamaged(t, c, damage) })
			}
		})
	}
}

// damages are things that happen to the files of a replica that is down.
func damages(store string) map[string]func(*testing.T, *localcluster.Replica) {
	all := map[string]func(*testing.T, *localcluster.Replica){
		"only snapshot flipped": func(t *testing.T, r *localcluster.Replica) {
			have := snapshots(t, r)
			for _, older := range have[:len(have)-1] {
				if err := os.RemoveAll(older); err != nil {
					t.Fatal(err)
				}
			}
			flip(t, filepath.Join(have[len(have)-1], "state.bin"), 0.5)
		},
		"newest snapshot flipped": func(t *testing.T, r *localcluster.Replica) {
			have := snapshots(t, r)
			flip(t, filepath.Join(have[len(have)-1], "state.bin"), 0.5)
		},
		"newest snapshot cut": func(t *testing.T, r *localcluster.Replica) {
			have := snapshots(t, r)
			cut(t, filepath.Join(have[len(have)-1], "state.bin"))
		},
		"snapshots gone": func(t *testing.T, r *localcluster.Replica) {
			for _, dir := range snapshots(t, r) {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		},
		"raft.db cut": func(t *testing.T, r *localcluster.Replica) { cut(t, filepath.Join(r.DataDir, "raft.db")) },
		"raft.db empty": func(t *testing.T, r *localcluster.Replica) {
			if err := os.Truncate(filepath.Join(r.DataDir, "raft.db"), 0); err != nil {
				t.Fatal(err)
			}
		},
		"raft.db gone": func(t *testing.T, r *localcluster.Replica) {
			if err := os.Remove(filepath.Join(r.DataDir, "raft.db")); err != nil {
				t.Fatal(err)
			}
		},
		"raft.db zeroed": func(t *testing.T, r *localcluster.Replica) { zero(t, filepath.Join(r.DataDir, "raft.db")) },
	}
	if store == "wal" {
		all["segment flipped"] = func(t *testing.T, r *localcluster.Replica) { flipWritten(t, segment(t, r)) }
		all["segment cut"] = func(t *testing.T, r *localcluster.Replica) { cut(t, segment(t, r)) }
	}
	return all
}

// startDamaged damages a follower that is down and starts it. Afterwards the folder is as before.
func startDamaged(t *testing.T, c *cluster, damage func(*testing.T, *localcluster.Replica)) {
	r := c.except(c.leader(t))[0]
	terminate(t, r)
	good := r.DataDir + ".good"
	if err := os.CopyFS(good, os.DirFS(r.DataDir)); err != nil {
		t.Fatal(err)
	}
	damage(t, r)
	from := logSize(t, r)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, settlePatience, "it serves or refuses", func() error {
		if !r.Running() {
			return nil
		}
		code, body, err := httpGet("http://" + r.HTTPAddr + "/health/ready")
		if err == nil && code != 200 {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
	if r.Running() {
		t.Log("it got what it lacked from the others")
		c.converge(t)
		terminate(t, r)
	} else {
		checkRefused(t, r.Wait(), logSince(t, r, from), r.DataDir)
	}
	if err := errors.Join(os.RemoveAll(r.DataDir), os.Rename(good, r.DataDir)); err != nil {
		t.Fatal(err)
	}
	c.restart(t, r)
	c.converge(t)
}

// checkRefused wants an orderly refusal that names what is damaged.
func checkRefused(t *testing.T, ended error, log, dataDir string) {
	t.Helper()
	var exit *exec.ExitError
	if !errors.As(ended, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ended with %v", ended)
	}
	message := complaint(t, log)
	if !strings.Contains(message, dataDir) {
		t.Errorf("it does not say which folder is damaged: %s", message)
	}
	t.Logf("it refused: %s", strings.TrimSpace(message))
}

// flip changes some bytes at a place in a file, given as a share of its length.
func flip(t *testing.T, path string, place float64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := int(place * float64(len(data)))
	for i := at; i < min(at+8, len(data)); i++ {
		data[i] ^= 0xff
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flipWritten flips bytes in the middle of what is written of a file that was made larger in advance.
func flipWritten(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	written := len(bytes.TrimRight(data, "\x00"))
	flip(t, path, float64(written/2)/float64(len(data)))
}

// cut takes the greater part of a file away.
func cut(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, min(info.Size()/2, keptBytes)); err != nil {
		t.Fatal(err)
	}
}

// keptBytes are less than raft.db has in use; it is made larger in advance.
const keptBytes = 20 << 10

// zero overwrites everything after the first two pages of raft.db, which say where the rest is.
func zero(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[2*os.Getpagesize():])
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// segment is the file of a write-ahead log that is written to.
func segment(t *testing.T, r *localcluster.Replica) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.DataDir, "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no segment in %s: %v", r.DataDir, err)
	}
	return files[len(files)-1]
}
