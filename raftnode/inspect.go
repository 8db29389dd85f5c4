package raftnode

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/fsm"
)

// Inspection reads the data folder of a replica that does not run. Nobody else may have the folder
// open meanwhile.
type Inspection struct {
	lock   *flock.Flock
	stores *stores
}

// Inspect opens the data folder of a stopped replica.
func Inspect(dataDir string, kind LogStoreKind) (*Inspection, error) {
	lock := flock.New(filepath.Join(dataDir, "LOCK"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder %s: %w", dataDir, err)
	}
	if !held {
		return nil, fmt.Errorf("the data folder %s is in use by another process", dataDir)
	}
	noWrites := func(error) {} // nothing is written that could fail
	stores, err := openStores(dataDir, kind, hclog.NewNullLogger(), noWrites)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	return &Inspection{lock, stores}, nil
}

// Close gives the folder free.
func (i *Inspection) Close() error { return errors.Join(i.stores.close(), i.lock.Unlock()) }

// Entries calls yield for every entry from an index on, in order. Entries at the end may not be
// committed.
func (i *Inspection) Entries(from uint64, yield func(fsm.Entry) error) error {
	first, err := i.stores.log.FirstIndex()
	if err != nil {
		return fmt.Errorf("read the log's first index: %w", err)
	}
	last, err := i.stores.log.LastIndex()
	if err != nil {
		return fmt.Errorf("read the log's last index: %w", err)
	}
	if from < first && last > 0 {
		return fmt.Errorf("the log begins with entry %d, after %d", first, from)
	}
	for index := from; index <= last; index++ {
		var l raft.Log
		if err := i.stores.log.GetLog(index, &l); err != nil {
			return fmt.Errorf("read entry %d: %w", index, err)
		}
		entry := fsm.Entry{Index: l.Index, Term: l.Term}
		if l.Type == raft.LogCommand {
			entry.Data = l.Data
		}
		if err := yield(entry); err != nil {
			return err
		}
	}
	return nil
}

// Snapshot is the state of the newest snapshot, nil when there is none.
func (i *Inspection) Snapshot() (_ *fsm.Machine, err error) {
	list, err := i.stores.snapshots.List()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	_, content, err := i.stores.snapshots.Open(list[0].ID)
	if err != nil {
		return nil, fmt.Errorf("open snapshot %s: %w", list[0].ID, err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	machine := fsm.NewMachine(nil)
	if err := machine.Restore(io.NopCloser(content)); err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", list[0].ID, err)
	}
	return machine, nil
}
