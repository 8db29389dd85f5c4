package raftnode

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// Pages that name each other in a circle would have bbolt walk for ever, and what a page has behind
// its end is another page's. None of it may be opened.
func TestDamagedPagesAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		kind   uint16 // of the page to be damaged
		damage func(page []byte)
		want   string
	}{
		{"in a circle", boltBranch, func(page []byte) { copy(page[boltHeaderSize+8:], page[:8]) }, "in two places"},
		{"a page twice", boltBranch, func(page []byte) {
			copy(page[boltHeaderSize+8:boltHeaderSize+16], page[boltHeaderSize+boltElementSize+8:])
		}, "in two places"},
		{"a page that is not in use", boltBranch, func(page []byte) { page[boltHeaderSize+15] = 1 }, "not among"},
		{"another page", boltLeaf, func(page []byte) { page[0]++ }, "says that it is page"},
		{"longer than the file", boltLeaf, func(page []byte) { page[14] = 1 }, "pages long"},
		{"of no kind", boltLeaf, func(page []byte) { page[8] = 0 }, "is of kind 0x0"},
		{"more elements than room", boltLeaf, func(page []byte) { page[11] = 0xff }, "more elements"},
		{"a key behind the end", boltBranch, func(page []byte) { page[boltHeaderSize+2] = 1 }, "key behind its end"},
		{"a value behind the end", boltLeaf, func(page []byte) { page[boltHeaderSize+14] = 1 }, "value behind its end"},
		{"keys out of order", boltBranch, func(page []byte) {
			first, second := page[boltHeaderSize:][:boltElementSize], page[boltHeaderSize+boltElementSize:][:boltElementSize]
			for i := 8; i < boltElementSize; i++ {
				first[i], second[i] = second[i], first[i]
			}
		}, "cannot be read through"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, boltFile)
			fillBolt(t, dir)
			damagePage(t, path, tc.kind, tc.damage)
			answer := make(chan error, 1)
			go func() { answer <- checkStores(dir, LogStoreBolt) }()
			select {
			case err := <-answer:
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
					t.Errorf("got %v, want %q of %s", err, tc.want, path)
				}
			case <-time.After(time.Minute):
				t.Fatal("it is still reading")
			}
		})
	}
}

func fillBolt(t *testing.T, dir string) {
	s, err := openStores(dir, LogStoreBolt, hclog.NewNullLogger(), func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index <= 20; index++ {
		if err := s.log.StoreLog(&raft.Log{Index: index, Term: 1, Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if err := checkStores(dir, LogStoreBolt); err != nil {
		t.Fatalf("before it is damaged: %v", err)
	}
}

// damagePage changes all pages of a kind, those that are free included.
func damagePage(t *testing.T, path string, kind uint16, damage func([]byte)) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for page := data[2*os.Getpagesize():]; len(page) > 0; page = page[os.Getpagesize():] {
		if binary.NativeEndian.Uint16(page[8:]) == kind && binary.NativeEndian.Uint16(page[10:]) > 1 {
			damage(page)
			found = true
		}
	}
	if !found {
		t.Fatalf("no page of kind %d", kind)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A bucket that has lost its name would be made anew, and empty: the votes forgotten, or the log.
func TestALostBucketIsRefused(t *testing.T) {
	for _, name := range []string{"conf", "logs"} {
		dir := t.TempDir()
		path := filepath.Join(dir, boltFile)
		fillBolt(t, dir)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lost := name[:3] + "t"
		if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(name), []byte(lost)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkStores(dir, LogStoreBolt); err == nil || !strings.Contains(err.Error(), "no bucket") {
			t.Errorf("%s became %s: %v", name, lost, err)
		}
	}
}

// The next write would go over a page that is in use and said to be free.
func TestAPageInUseThatIsSaidToBeFreeIsRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "with-list.db")
	db, err := bbolt.Open(path, 0o600, nil) // which writes the list of free pages
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(3) {
		if err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("bucket"))
			if err != nil {
				return err
			}
			return b.Put([]byte{i}, make([]byte, 3000))
		}); err != nil {
			t.Fatal(err)
		}
	}
	var root uint64
	if err := errors.Join(db.View(func(tx *bbolt.Tx) error {
		root = uint64(tx.Bucket([]byte("bucket")).Root())
		return nil
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := checkBolt(dir, "with-list.db", "bucket"); err != nil {
		t.Fatalf("before it is damaged: %v", err)
	}
	damagePage(t, path, 0x10, func(page []byte) { binary.NativeEndian.PutUint64(page[boltHeaderSize:], root) })
	if err := checkBolt(dir, "with-list.db", "bucket"); err == nil || !strings.Contains(err.Error(), "freed") {
		t.Errorf("got %v, want a refusal", err)
	}
}
