package raftnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
	"github.com/hashicorp/raft"
)

// identity says whose data folder it is.
type identity struct {
	Format   int          `json:"format"`
	NodeID   string       `json:"node_id"`
	LogStore LogStoreKind `json:"log_store"`
	// Instance tells the folder from all others that a replica of this name has had and will have.
	Instance string `json:"instance,omitempty"`
	// Joined: the folder belongs to Cluster, and where it says so the log must be. It is written
	// before Raft runs for the first time: in a folder that has not joined, nothing has ever been
	// acknowledged and nothing voted for.
	Joined  bool   `json:"joined,omitempty"`
	Cluster string `json:"cluster,omitempty"`
}

// serverID is what Raft calls the replica.
func (i identity) serverID() raft.ServerID { return serverID(i.NodeID, i.Instance) }

const (
	dataDirFormat = 2
	// formatWithoutInstance is of folders that were made before there were instances. They have
	// joined a cluster without an id, and stay as they are.
	formatWithoutInstance = 1
	identityFile          = "node.json"
)

// dataDir is a data folder that this process holds.
type dataDir struct {
	path string
	lock *flock.Flock

	mu       sync.Mutex
	identity identity
}

// isNewDataDir says whether a folder is yet to be made a replica's.
func isNewDataDir(path string) bool {
	_, err := os.Stat(filepath.Join(path, identityFile))
	return errors.Is(err, fs.ErrNotExist)
}

// openDataDir takes the folder for this process, and makes an empty one this node's. It refuses one
// that another process holds, or that belongs to another node or log store.
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
	if err := d.identify(nodeID, store); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *dataDir) close() error { return d.lock.Unlock() }

// self is whose folder it is.
func (d *dataDir) self() identity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.identity
}

// join makes the folder one of a cluster, for ever.
func (d *dataDir) join(cluster string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	joined := d.identity
	joined.Joined, joined.Cluster = true, cluster
	if err := d.write(joined); err != nil {
		return err
	}
	d.identity = joined
	return nil
}

// identify reads whose folder it is, or says so in a new one.
func (d *dataDir) identify(nodeID string, store LogStoreKind) error {
	path := filepath.Join(d.path, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d.claim(nodeID, store)
	}
	if err != nil {
		return fmt.Errorf("read whose data folder this is: %w", err)
	}
	var have identity
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	switch {
	case have.Format != dataDirFormat && have.Format != formatWithoutInstance:
		return fmt.Errorf("the data folder %s has format %d, this version reads up to %d", d.path, have.Format, dataDirFormat)
	case have.NodeID != nodeID:
		return fmt.Errorf("the data folder %s belongs to node %q, not %q", d.path, have.NodeID, nodeID)
	case have.LogStore != store:
		return fmt.Errorf("the data folder %s was written with --log-store %s, not %s", d.path, have.LogStore, store)
	case have.Format == dataDirFormat && have.Instance == "":
		return fmt.Errorf("%s is damaged: it has no instance", path)
	case have.Format == formatWithoutInstance:
		have.Instance, have.Joined, have.Cluster = "", true, ""
	}
	d.identity = have
	return nil
}

// claim makes a new folder this node's. One with a log in it is not new: whoever took its node.json
// away must not make a replica of it that has forgotten who it was.
func (d *dataDir) claim(nodeID string, store LogStoreKind) error {
	for _, name := range storeFiles {
		if _, err := os.Lstat(filepath.Join(d.path, name)); err == nil {
			return fmt.Errorf("the data folder %s has a %s but no %s: put that file back, or empty the folder to begin anew",
				d.path, name, identityFile)
		}
	}
	d.identity = identity{Format: dataDirFormat, NodeID: nodeID, LogStore: store, Instance: drawID()}
	return d.write(d.identity)
}

// clear removes what a start that was cut short has left in a folder that has not joined.
func (d *dataDir) clear() error {
	for _, name := range storeFiles {
		if err := os.RemoveAll(filepath.Join(d.path, name)); err != nil {
			return fmt.Errorf("clear the new data folder: %w", err)
		}
	}
	return nil
}

// write puts the file down whole or not at all.
func (d *dataDir) write(i identity) error {
	path := filepath.Join(d.path, identityFile)
	data, err := json.MarshalIndent(i, "", "  ")
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
	return fmt.Errorf("write whose data folder this is: %w", errors.Join(err, os.Remove(f.Name())))
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
