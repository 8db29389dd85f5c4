package raftnode

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
			if err := errors.Join(first.claim(), first.close()); err != nil {
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

func write(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
