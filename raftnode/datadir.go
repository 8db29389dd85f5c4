package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// identity says whose data folder it is. It is written once, when everything else is in a new
// folder: where it is, the log must be.
type identity struct {
	Format   int          `json:"format"`
	NodeID   string       `json:"node_id"`
	LogStore LogStoreKind `json:"log_store"`
}

const (
	dataDirFormat = 1
	identityFile  = "node.json"
)

// dataDir is a data folder that this process holds.
type dataDir struct {
	path     string
	lock     *flock.Flock
	identity identity
	// isNew: no replica has ever run on it.
	isNew bool
}

// isNewDataDir says whether a folder is yet to be made a replica's.
func isNewDataDir(path string) bool {
	_, err := os.Stat(filepath.Join(path, identityFile))
	return errors.Is(err, fs.ErrNotExist)
}

// openDataDir takes the folder for this process. It refuses one that another process holds, or
// that belongs to another node or log store.
func openDataDir(path, nodeID string, store LogStoreKind) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	lock := flock.New(filepath.Join(path, "LOCK"))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder %s: %w", path, err)
	}
	if !held {
		return nil, fmt.Errorf("the data folder %s is in use by another process", path)
	}
	d := &dataDir{path: path, lock: lock, identity: identity{dataDirFormat, nodeID, store}}
	if err := d.checkIdentity(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dataDir) close() error { return d.lock.Unlock() }

func (d *dataDir) checkIdentity() error {
	path, want := filepath.Join(d.path, identityFile), d.identity
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		d.isNew = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read whose data folder this is: %w", err)
	}
	var have identity
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	switch {
	case have.Format != want.Format:
		return fmt.Errorf("the data folder %s has format %d, this version reads %d", d.path, have.Format, want.Format)
	case have.NodeID != want.NodeID:
		return fmt.Errorf("the data folder %s belongs to node %q, not %q", d.path, have.NodeID, want.NodeID)
	case have.LogStore != want.LogStore:
		return fmt.Errorf("the data folder %s was written with --log-store %s, not %s", d.path, have.LogStore, want.LogStore)
	}
	return nil
}

// claim makes a new folder this node's. It writes the file whole or not at all.
func (d *dataDir) claim() error {
	path := filepath.Join(d.path, identityFile)
	data, err := json.MarshalIndent(d.identity, "", "  ")
	if err != nil {
		return fmt.Errorf("encode whose data folder this is: %w", err)
	}
	f, err := os.CreateTemp(d.path, identityFile+".*")
	if err != nil {
		return fmt.Errorf("write whose data folder this is: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		return syncFolder(d.path)
	}
	if err != nil {
		return fmt.Errorf("write whose data folder this is: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// syncFolder makes the names in a folder survive a power loss.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync the data folder: %w", err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync the data folder: %w", err)
	}
	return nil
}
