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

// identity says whose data folder it is. It is written once, when the folder is empty.
type identity struct {
	Format   int          `json:"format"`
	NodeID   string       `json:"node_id"`
	LogStore LogStoreKind `json:"log_store"`
}

const dataDirFormat = 1

// dataDir is a data folder that this process holds.
type dataDir struct {
	path string
	lock *flock.Flock
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
	d := &dataDir{path: path, lock: lock}
	if err := d.checkIdentity(identity{dataDirFormat, nodeID, store}); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dataDir) close() error { return d.lock.Unlock() }

func (d *dataDir) checkIdentity(want identity) error {
	path := filepath.Join(d.path, "node.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return writeIdentity(path, want)
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

// writeIdentity writes the file whole or not at all.
func writeIdentity(path string, id identity) error {
	data, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("encode whose data folder this is: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "node.json.*")
	if err != nil {
		return fmt.Errorf("write whose data folder this is: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write whose data folder this is: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
