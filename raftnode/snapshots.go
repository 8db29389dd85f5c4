package raftnode

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// steadySnapshots brings snapshots to the disk as they are written. Raft's store syncs the whole file
// at its end: a disk that is given hundreds of megabytes at once holds up the log beside them for so
// long that leader and followers take each other for dead.
type steadySnapshots struct {
	raft.SnapshotStore
	dir string // data folder
}

// syncEvery is how much of a snapshot is given to the disk at once: some milliseconds of its time.
const syncEvery = 1 << 20

// Create begins a snapshot.
func (s steadySnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	// Raft's sink does not show its file: any descriptor of it syncs it.
	file, err := os.OpenFile(filepath.Join(s.dir, snapshotFolder, sink.ID()+".tmp", "state.bin"), os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the snapshot %s: %w", sink.ID(), err), sink.Cancel())
	}
	return &steadySink{SnapshotSink: sink, file: file}, nil
}

type steadySink struct {
	raft.SnapshotSink
	file     *os.File
	unsynced int
}

func (s *steadySink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	if s.unsynced += n; err == nil && s.unsynced >= syncEvery {
		s.unsynced = 0
		if err = s.file.Sync(); err != nil {
			err = fmt.Errorf("sync the snapshot %s: %w", s.ID(), err)
		}
	}
	return n, err
}

// Close makes the snapshot one that counts.
func (s *steadySink) Close() error { return errors.Join(s.SnapshotSink.Close(), s.closeFile()) }

// Cancel throws it away.
func (s *steadySink) Cancel() error { return errors.Join(s.SnapshotSink.Cancel(), s.closeFile()) }

// closeFile may be called again, as raft cancels a snapshot that has failed once more.
func (s *steadySink) closeFile() error {
	if err := s.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
