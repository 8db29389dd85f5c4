package raftnode

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	raftwal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"

	"github.com/conclave-rtc/conclave/fsm"
)

// LogStoreKind names a log store.
type LogStoreKind string

// Where the stores are in a data folder.
const (
	boltFile       = "raft.db"
	walFolder      = "wal"
	snapshotFolder = "snapshots"
)

var storeFiles = []string{boltFile, walFolder, snapshotFolder}

// The log stores: one B+ tree file with the stable store, or a segmented write-ahead log.
const (
	LogStoreBolt LogStoreKind = "bolt"
	LogStoreWAL  LogStoreKind = "wal"
)

// ParseLogStore reads the name of a log store.
func ParseLogStore(name string) (LogStoreKind, error) {
	switch kind := LogStoreKind(name); kind {
	case LogStoreBolt, LogStoreWAL:
		return kind, nil
	}
	return "", fmt.Errorf("log store %q: must be bolt or wal", name)
}

// stores are the disks of a replica.
type stores struct {
	log       *durableLog
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	closers   []io.Closer
}

func (s *stores) close() error {
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// openStores opens the stable store and snapshots, and the log store of the kind asked for.
func openStores(dir string, kind LogStoreKind, log hclog.Logger, fatal func(error)) (*stores, error) {
	end := func(err error) { fatal(fmt.Errorf("the data folder %s: %w", dir, err)) }
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, log.Named("snapshot"))
	if err != nil {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, boltFile),
		BoltOptions: &bbolt.Options{
			Timeout: time.Second,
			// The list of free pages is rebuilt at start instead of written at every commit.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open raft.db: %w", err)
	}
	s := &stores{stable: durableStable{bolt, end}, snapshots: steadySnapshots{snapshots, dir}, closers: []io.Closer{bolt}}
	var store raft.LogStore = bolt
	if kind == LogStoreWAL {
		wal, err := openWAL(filepath.Join(dir, walFolder), log)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		store = wal
		s.closers = append(s.closers, wal)
	}
	s.log = &durableLog{LogStore: &checkedLog{store}, fatal: end, covered: s.covered, log: log}
	return s, nil
}

// newestSnapshot describes the newest snapshot, and nothing when there is none.
func (s *stores) newestSnapshot() raft.SnapshotMeta {
	all, err := s.snapshots.List()
	if err != nil || len(all) == 0 {
		return raft.SnapshotMeta{}
	}
	return *all[0]
}

// covered is up to where the newest snapshot stands for the log; 0 when there is none.
func (s *stores) covered() uint64 { return s.newestSnapshot().Index }

// dropOutdatedLog empties a log that ends before the newest snapshot does. A replica leaves one
// behind that dies between storing a snapshot that its leader sent and emptying its log, and then raft
// goes on behind the snapshot, where a log without gaps takes no entry. The snapshot is read first:
// without it, the log is all there is.
func (s *stores) dropOutdatedLog(log hclog.Logger) error {
	newest, err := s.snapshots.List()
	if err != nil || len(newest) == 0 || !s.log.IsMonotonic() {
		return err
	}
	first, err := s.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("read where the log begins: %w", err)
	}
	last, err := s.log.LastIndex()
	if err != nil {
		return fmt.Errorf("read where the log ends: %w", err)
	}
	if last == 0 || last >= newest[0].Index {
		return nil
	}
	_, content, err := s.snapshots.Open(newest[0].ID)
	if err != nil {
		return nil // raft goes back to one before it, and tells
	}
	_, err = fsm.ReadSnapshot(content)
	if err := errors.Join(err, content.Close()); err != nil {
		return nil // likewise
	}
	log.Warn("the log ends before the newest snapshot: it is emptied", "log_ends_at", last, "snapshot", newest[0].ID)
	return s.log.DeleteRange(first, last)
}

// openWAL makes an error of a panic: bbolt, in which the log keeps its list of segments, panics at damage
// that reading it through has not met.
func openWAL(dir string, log hclog.Logger) (wal *raftwal.WAL, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			wal, err = nil, fmt.Errorf("the write-ahead log %s is damaged: %v", dir, cause)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the write-ahead log's folder: %w", err)
	}
	wal, err = raftwal.Open(dir, raftwal.WithLogger(log.Named("wal")))
	if err != nil {
		return nil, fmt.Errorf("open the write-ahead log: %w", err)
	}
	return wal, nil
}

// durableStable ends the process when a vote or a term cannot be written, as durableLog does.
type durableStable struct {
	raft.StableStore
	fatal func(error)
}

func (s durableStable) Set(key, value []byte) error {
	return s.check(s.StableStore.Set(key, value))
}

func (s durableStable) SetUint64(key []byte, value uint64) error {
	return s.check(s.StableStore.SetUint64(key, value))
}

func (s durableStable) check(err error) error {
	if err != nil {
		s.fatal(fmt.Errorf("write the Raft vote: %w", err))
	}
	return err
}

// durableLog ends the process when a write fails: after a failed fsync the kernel may have
// dropped the pages and will call the next fsync a success (Rebello et al., "Can Applications
// Recover from fsync Failures?", ATC 2020). It also tells how long a write has been under way, and
// gives up what cannot be read any more.
type durableLog struct {
	raft.LogStore
	fatal   func(error)
	covered func() uint64
	log     hclog.Logger
	// running says that raft has read all of the log that no snapshot covers.
	running atomic.Bool
	// writingSince is when the write under way began, by monotonic; 0 when there is none.
	writingSince atomic.Int64
}

// IsMonotonic passes on what the store says; raft asks.
func (l *durableLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// GetLog reads an entry. One that is damaged is as good as gone when a snapshot covers it: raft sends that
// to a follower who lacks the entry, and would else try to read it for ever. Any other is what a start
// refuses, so a replica that finds it later ends: the others go on without it.
func (l *durableLog) GetLog(index uint64, entry *raft.Log) error {
	err := l.LogStore.GetLog(index, entry)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || !l.running.Load() {
		return err
	}
	if index <= l.covered() {
		l.log.Warn("an old entry of the log cannot be read: a snapshot stands for it", "index", index, "error", err)
		return raft.ErrLogNotFound
	}
	l.fatal(fmt.Errorf("read the Raft log: %w", err))
	return err
}

func (l *durableLog) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l *durableLog) StoreLogs(entries []*raft.Log) error {
	l.writingSince.Store(monotonic())
	err := l.LogStore.StoreLogs(entries)
	l.writingSince.Store(0)
	if err != nil {
		l.fatal(fmt.Errorf("write the Raft log: %w", err))
	}
	return err
}

func (l *durableLog) DeleteRange(from, to uint64) error {
	err := l.LogStore.DeleteRange(from, to)
	if err != nil {
		l.fatal(fmt.Errorf("trim the Raft log: %w", err))
	}
	return err
}

// stalled is how long the write under way has taken.
func (l *durableLog) stalled() time.Duration {
	since := l.writingSince.Load()
	if since == 0 {
		return 0
	}
	return time.Duration(monotonic() - since)
}

var started = time.Now()

// monotonic is nanoseconds of this process's own time, which no change of the wall clock touches.
// It is never 0.
func monotonic() int64 { return 1 + int64(time.Since(started)) }
