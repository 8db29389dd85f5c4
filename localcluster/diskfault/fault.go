package diskfault

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Store is one of a replica's stores.
type Store string

// The stores of a replica.
const (
	Log       Store = "log"
	Votes     Store = "votes"
	Snapshots Store = "snapshots"
)

// Fault is what becomes of writes. The zero one leaves them as they are.
type Fault struct {
	// Only is the store that has it; all of them when empty.
	Only Store
	// After is how many writes go well before, since the fault was set or the process began.
	After int
	// Once lets all writes after the first that is hit go well.
	Once bool
	// Delay is how long a write waits before it is done.
	Delay time.Duration
	// Error is what a write fails with, if it is not empty.
	Error string
	// Kill ends the process with SIGKILL.
	Kill bool
	// Written has the write done all the same before it fails or the process ends, as when an
	// fsync fails whose pages reach the disk later.
	Written bool
}

// file is where the fault of a data folder is kept: beside it, as the folder is replaced whole.
func file(dataDir string) string { return filepath.Clean(dataDir) + ".fault" }

// Set gives the disk of a data folder a fault instead of the one that it had.
func Set(dataDir string, f Fault) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("encode a fault: %w", err)
	}
	path := file(dataDir)
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		return fmt.Errorf("set a fault: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("set a fault: %w", err)
	}
	return nil
}

// Clear makes the disk of a data folder sound again.
func Clear(dataDir string) error {
	if err := os.Remove(file(dataDir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear a fault: %w", err)
	}
	return nil
}
