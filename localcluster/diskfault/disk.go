package diskfault

import (
	"encoding/json"
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// Disk is where a process keeps its stores. Its methods, and the stores, may be used from several
// goroutines.
type Disk struct {
	path string

	mu    sync.Mutex
	text  string // of the fault that is counted for
	fault Fault
	seen  int
}

var disks sync.Map // by data folder

// Of is the disk of a data folder, with whatever fault it has at each write. All stores of a folder
// are on one disk, whose writes are counted together.
func Of(dataDir string) *Disk {
	disk, _ := disks.LoadOrStore(file(dataDir), &Disk{path: file(dataDir)})
	return disk.(*Disk)
}

// current is the fault that hits a write to a store now; the zero one when none does.
func (d *Disk) current(store Store) Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	text, _ := os.ReadFile(d.path) // none: nothing is wrong with the disk
	if string(text) != d.text {
		d.text, d.fault, d.seen = string(text), Fault{}, 0
		if err := json.Unmarshal(text, &d.fault); len(text) > 0 && err != nil {
			d.fault = Fault{Error: "the fault cannot be read: " + err.Error()}
		}
	}
	if d.fault.Only != "" && d.fault.Only != store {
		return Fault{}
	}
	d.seen++
	if d.seen <= d.fault.After || d.fault.Once && d.seen > d.fault.After+1 {
		return Fault{}
	}
	return d.fault
}

// write does a write, or what the fault makes of it.
func (d *Disk) write(store Store, do func() error) error {
	f := d.current(store)
	time.Sleep(f.Delay)
	if !f.Kill && f.Error == "" {
		return do()
	}
	var err error
	if f.Written {
		err = do()
	}
	if f.Kill {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it takes a moment
	}
	return errors.Join(errors.New(f.Error), err)
}

// Log is a log store on the disk.
func (d *Disk) Log(store raft.LogStore) raft.LogStore { return &logStore{store, d} }

// Stable is a store of votes on the disk.
func (d *Disk) Stable(store raft.StableStore) raft.StableStore { return &stableStore{store, d} }

// Snapshots is a store of snapshots on the disk.
func (d *Disk) Snapshots(store raft.SnapshotStore) raft.SnapshotStore {
	return &snapshotStore{store, d}
}

type logStore struct {
	raft.LogStore
	disk *Disk
}

// IsMonotonic passes on what the store says; raft asks.
func (l *logStore) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (l *logStore) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

func (l *logStore) StoreLogs(entries []*raft.Log) error {
	return l.disk.write(Log, func() error { return l.LogStore.StoreLogs(entries) })
}

func (l *logStore) DeleteRange(from, to uint64) error {
	return l.disk.write(Log, func() error { return l.LogStore.DeleteRange(from, to) })
}

type stableStore struct {
	raft.StableStore
	disk *Disk
}

func (s *stableStore) Set(key, value []byte) error {
	return s.disk.write(Votes, func() error { return s.StableStore.Set(key, value) })
}

func (s *stableStore) SetUint64(key []byte, value uint64) error {
	return s.disk.write(Votes, func() error { return s.StableStore.SetUint64(key, value) })
}

type snapshotStore struct {
	raft.SnapshotStore
	disk *Disk
}

func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, err
	}
	return &snapshotSink{sink, s.disk}, nil
}

type snapshotSink struct {
	raft.SnapshotSink
	disk *Disk
}

func (s *snapshotSink) Write(p []byte) (n int, err error) {
	err = s.disk.write(Snapshots, func() (err error) {
		n, err = s.SnapshotSink.Write(p)
		return err
	})
	return n, err
}

func (s *snapshotSink) Close() error {
	return s.disk.write(Snapshots, func() error { return s.SnapshotSink.Close() })
}
