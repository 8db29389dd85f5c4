package raftnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/raft-wal/metadb"
	"go.etcd.io/bbolt"
)

// checkStores refuses a data folder that has lost its log, or cannot be read. A replica that
// began anew under its old name would have forgotten what it voted for and what it acknowledged:
// with it the others could elect a leader that lacks committed entries.
func checkStores(dir string, kind LogStoreKind) error {
	if kind == LogStoreWAL {
		// The write-ahead log keeps the list of its segments in a bbolt file.
		err := checkBolt(dir, filepath.Join(walFolder, metadb.FileName), metadb.MetaBucket, metadb.StableBucket)
		if err != nil {
			return err
		}
	}
	return checkBolt(dir, boltFile, "logs", "conf")
}

// checkBolt refuses a bbolt file of a data folder that is gone, damaged, or lacks a bucket: the
// stores would make the file or the bucket anew, and empty.
func checkBolt(dir, name string, buckets ...string) error {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err == nil && info.Size() == 0 {
		err = &fs.PathError{Op: "read", Path: path, Err: errors.New("the file is empty")}
	}
	if err != nil {
		return fmt.Errorf("the data folder %s has lost its log: %w", dir, err)
	}
	if err := readThrough(path, buckets); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

// readThrough reads all pages of a bbolt file. bbolt itself meets damage with a panic, on a goroutine
// of its own, with a fault, or never comes back.
func readThrough(path string, buckets []string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("it cannot be read through: %v", cause)
		}
	}()
	if err := viewBolt(path, false, walkPages); err != nil {
		return err
	}
	// From here on bbolt may go where it likes, with the list of free pages.
	return viewBolt(path, true, func(tx *bbolt.Tx) error {
		var first error
		for problem := range tx.Check() { // to its end: it reads the file beside this
			if first == nil {
				first = problem
			}
		}
		if first != nil {
			return first
		}
		for _, name := range buckets {
			if tx.Bucket([]byte(name)) == nil {
				return fmt.Errorf("it has no bucket %q", name)
			}
		}
		return nil
	})
}

// walkPages checks all pages that a bbolt file has in use.
func walkPages(tx *bbolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("it is cut off after %d of %d bytes", info.Size(), tx.Size())
	}
	file, err := os.Open(tx.DB().Path())
	if err != nil {
		return err
	}
	defer file.Close()
	pageSize := uint64(tx.DB().Info().PageSize)
	pages := boltPages{file: file, pageSize: pageSize, end: uint64(tx.Size()) / pageSize, seen: make(map[uint64]bool)}
	return pages.walk(uint64(tx.Cursor().Bucket().Root()))
}

// viewBolt reads a bbolt file, with or without the list of its free pages.
func viewBolt(path string, freePages bool, read func(*bbolt.Tx) error) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PreLoadFreelist: freePages, Timeout: time.Second})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(read)
}
