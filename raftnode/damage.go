package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
)

// checkStores refuses a data folder that has lost its log, or cannot be read. A replica that
// began anew under its old name would have forgotten what it voted for and what it acknowledged:
// with it the others could elect a leader that lacks committed entries.
func checkStores(dir string, kind LogStoreKind) error {
	if kind == LogStoreWAL {
		if _, err := os.Stat(filepath.Join(dir, walFolder)); err != nil {
			return fmt.Errorf("the data folder %s has lost its log: %w", dir, err)
		}
	}
	path := filepath.Join(dir, boltFile)
	info, err := os.Stat(path)
	if err == nil && info.Size() == 0 {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("the file is empty")}
	}
	if err != nil {
		return fmt.Errorf("the data folder %s has lost its log: %w", dir, err)
	}
	if err := readThrough(path); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

// readThrough reads all pages of a bbolt file. bbolt itself meets a damaged one with a panic, when
// it is opened for writing on a goroutine of its own, and one that is cut off with a fault.
func readThrough(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it cannot be read through: %v", cause)
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			return bucket.ForEach(touch)
		})
	})
}

// touch reads the last byte of a value: its first may be on a page before the cut.
func touch(_, value []byte) error {
	if len(value) > 0 {
		lastByte(value)
	}
	return nil
}

// lastByte is not inlined: the compiler would leave a read out whose result nobody takes.
//
//go:noinline
func lastByte(value []byte) byte { return value[len(value)-1] }
