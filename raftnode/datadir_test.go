package raftnode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

func TestDataDirRefusesWhatIsNotItsOwn(t *testing.T) {
	for _, tc := range []struct {
		name   string
		spoil  func(t *testing.T, dir string)
		nodeID string
		store  LogStoreKind
		want   string // in the error; empty: it opens
	}{
		{name: "the same node again", nodeID: "gc-1", store: LogStoreBolt},
		{name: "another node", nodeID: "gc-2", store: LogStoreBolt, want: `belongs to node "gc-1", not "gc-2"`},
		{name: "another log store", nodeID: "gc-1", store: LogStoreWAL, want: "--log-store bolt, not wal"},
		{
			name: "damaged", nodeID: "gc-1", store: LogStoreBolt, want: "damaged",
			spoil: func(t *testing.T, dir string) { write(t, dir, "{") },
		},
		{
			name: "without its instance", nodeID: "gc-1", store: LogStoreBolt, want: "no instance",
			spoil: func(t *testing.T, dir string) { write(t, dir, `{"format":2,"node_id":"gc-1","log_store":"bolt"}`) },
		},
		{
			name: "from before instances", nodeID: "gc-1", store: LogStoreBolt,
			spoil: func(t *testing.T, dir string) { write(t, dir, `{"format":1,"node_id":"gc-1","log_store":"bolt"}`) },
		},
		{
			name: "of a newer version", nodeID: "gc-1", store: LogStoreBolt, want: "format 99",
			spoil: func(t *testing.T, dir string) { write(t, dir, `{"format":99,"node_id":"gc-1","log_store":"bolt"}`) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			first, err := openDataDir(dir, "gc-1", LogStoreBolt)
			if err != nil {
				t.Fatal(err)
			}
			if err := first.close(); err != nil {
				t.Fatal(err)
			}
			if tc.spoil != nil {
				tc.spoil(t, dir)
			}
			again, err := openDataDir(dir, tc.nodeID, tc.store)
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if err := again.close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an error with %q", err, tc.want)
			}
			// A refusal gives the folder back.
			if err := os.Remove(filepath.Join(dir, "node.json")); err != nil {
				t.Fatal(err)
			}
			fresh, err := openDataDir(dir, "gc-1", LogStoreBolt)
			if err != nil {
				t.Fatalf("the refusal kept the lock: %v", err)
			}
			if err := fresh.close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDataDirHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	first, err := openDataDir(dir, "gc-1", LogStoreBolt)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	if _, err := openDataDir(dir, "gc-1", LogStoreBolt); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("got %v, want a refusal: the folder is in use", err)
	}
}

// A folder is one instance for ever, and of one cluster once it has joined.
func TestDataDirRemembersWhoItIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	open := func() *dataDir {
		t.Helper()
		d, err := openDataDir(dir, "gc-1", LogStoreBolt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.close() })
		return d
	}
	first := open()
	drawn := first.self()
	if drawn.Joined || drawn.Cluster != "" || drawn.Instance == "" || drawn.serverID() != raft.ServerID("gc-1."+drawn.Instance) {
		t.Fatalf("a new folder is %+v", drawn)
	}
	first.close()
	second := open()
	if second.self() != drawn {
		t.Fatalf("after a restart %+v is %+v", drawn, second.self())
	}
	if err := second.join("a cluster"); err != nil {
		t.Fatal(err)
	}
	joined := second.self()
	if !joined.Joined || joined.Cluster != "a cluster" || joined.serverID() != drawn.serverID() {
		t.Fatalf("once it has joined it is %+v", joined)
	}
	second.close()
	if third := open().self(); third != joined {
		t.Fatalf("after a restart %+v is %+v", joined, third)
	}
}

// A log whose node.json is gone is nobody's: a replica that was made of it would have another name in
// Raft, or one that it has forgotten the votes of.
func TestDataDirRefusesALogOfNobody(t *testing.T) {
	for _, name := range storeFiles {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := openDataDir(dir, "gc-1", LogStoreBolt)
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "node.json") {
			t.Errorf("a folder with a %s and no node.json: got %v, want a refusal", name, err)
		}
		if !isNewDataDir(dir) {
			t.Error("a folder that was refused was made a replica's")
		}
	}
}

func write(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
