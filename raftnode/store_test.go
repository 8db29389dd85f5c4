package raftnode

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/fsm"
)

var errBroken = errors.New("input/output error")

// brokenStore fails every write.
type brokenStore struct{ raft.LogStore }

func (brokenStore) StoreLogs([]*raft.Log) error   { return errBroken }
func (brokenStore) DeleteRange(_, _ uint64) error { return errBroken }

// After a failed fsync nobody knows what is on the disk, and the next fsync may lie.
func TestAFailedWriteIsFatal(t *testing.T) {
	for _, tc := range []struct {
		name  string
		write func(l *durableLog) error
	}{
		{"store one", func(l *durableLog) error { return l.StoreLog(&raft.Log{Index: 1}) }},
		{"store many", func(l *durableLog) error { return l.StoreLogs([]*raft.Log{{Index: 1}, {Index: 2}}) }},
		{"trim", func(l *durableLog) error { return l.DeleteRange(1, 2) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var fatal []error
			l := &durableLog{LogStore: brokenStore{raft.NewInmemStore()}, fatal: func(err error) { fatal = append(fatal, err) }}
			err := tc.write(l)
			if !errors.Is(err, errBroken) {
				t.Errorf("got %v, want the store's error", err)
			}
			if len(fatal) != 1 || !errors.Is(fatal[0], errBroken) {
				t.Errorf("fatal was told %v, want the store's error once", fatal)
			}
		})
	}
}

// A replica that dies between storing a snapshot from its leader and emptying its log must take what
// comes behind the snapshot when it is there again.
func TestALogThatEndsBeforeTheSnapshotIsEmptied(t *testing.T) {
	for _, tc := range []struct {
		name     string
		snapshot uint64 // its index, 0 for none
		damaged  bool
		want     uint64 // the last index of the log
	}{
		{"no snapshot", 0, false, 5},
		{"a snapshot within the log", 4, false, 5},
		{"a snapshot at its end", 5, false, 5},
		{"a snapshot behind it", 9, false, 0},
		{"a damaged one behind it", 9, true, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := openStores(dir, LogStoreWAL, hclog.NewNullLogger(), func(err error) { t.Error(err) })
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			for i := range uint64(5) {
				if err := s.log.StoreLog(&raft.Log{Index: i + 1, Term: 1}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.snapshot > 0 {
				storeSnapshot(t, s, tc.snapshot)
			}
			if tc.damaged {
				damageSnapshots(t, dir)
			}
			if err := s.dropOutdatedLog(hclog.NewNullLogger()); err != nil {
				t.Fatal(err)
			}
			if last, err := s.log.LastIndex(); err != nil || last != tc.want {
				t.Errorf("the log ends at %d, %v; want %d", last, err, tc.want)
			}
			next := max(tc.snapshot, tc.want) + 1
			if tc.damaged {
				return
			}
			if err := s.log.StoreLog(&raft.Log{Index: next, Term: 1}); err != nil {
				t.Errorf("entry %d: %v", next, err)
			}
		})
	}
}

func storeSnapshot(t *testing.T, s *stores, index uint64) {
	t.Helper()
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fsm.WriteSnapshot(sink, fsm.NewState()), sink.Close()); err != nil {
		t.Fatal(err)
	}
}

func damageSnapshots(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, snapshotFolder, "*", "state.bin"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no snapshots: %v", err)
	}
	for _, file := range files {
		if err := os.WriteFile(file, []byte("not a state"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// hangingStore does not return from a write until it is let go.
type hangingStore struct {
	raft.LogStore
	entered, letGo chan struct{}
}

func (h hangingStore) StoreLogs([]*raft.Log) error {
	h.entered <- struct{}{}
	<-h.letGo
	return nil
}

func TestAHangingWriteIsSeen(t *testing.T) {
	h := hangingStore{raft.NewInmemStore(), make(chan struct{}), make(chan struct{})}
	l := &durableLog{LogStore: h}
	if l.stalled() != 0 {
		t.Error("an idle log is stalled")
	}
	done := make(chan error)
	go func() { done <- l.StoreLogs(nil) }()
	<-h.entered
	for start := time.Now(); l.stalled() == 0; {
		if time.Since(start) > 10*time.Second {
			t.Fatal("a hanging write is not seen")
		}
	}
	close(h.letGo)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if l.stalled() != 0 {
		t.Error("the log is stalled after the write")
	}
}
