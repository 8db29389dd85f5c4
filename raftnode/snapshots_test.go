package raftnode

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestSteadySnapshots(t *testing.T) {
	dir := t.TempDir()
	s, err := openStores(dir, LogStoreBolt, hclog.NewNullLogger(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	content := bytes.Repeat([]byte("state"), syncEvery) // it is synced several times
	write := func(index uint64, end func(raft.SnapshotSink) error) {
		t.Helper()
		sink, err := s.snapshots.Create(raft.SnapshotVersionMax, index, 1, raft.Configuration{}, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(sink, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if err := end(sink); err != nil {
			t.Error(err)
		}
	}
	write(1, raft.SnapshotSink.Close)
	// Raft cancels a snapshot that could not be written once more.
	write(2, func(sink raft.SnapshotSink) error { return errors.Join(sink.Cancel(), sink.Cancel()) })
	kept, err := s.snapshots.List()
	if err != nil || len(kept) != 1 || kept[0].Index != 1 {
		t.Fatalf("kept %v, %v; want the one of index 1", kept, err)
	}
	_, r, err := s.snapshots.Open(kept[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(content))
	}
	if left, err := filepath.Glob(filepath.Join(dir, snapshotFolder, "*.tmp")); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// What cannot be synced is no snapshot.
func TestASnapshotThatCannotBeSyncedFails(t *testing.T) {
	_, transport := raft.NewInmemTransport("a")
	inner, err := raft.NewInmemSnapshotStore().Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{}, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	sink := &steadySink{SnapshotSink: inner, file: file}
	if _, err := sink.Write(make([]byte, syncEvery)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want the error of the sync", err)
	}
}
