package raftnode

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
)

// FuzzDamagedStore: a disk that changes or loses bytes of a log makes a replica refuse its data
// folder or an entry of it. It never ends the process otherwise, and never gives another entry.
func FuzzDamagedStore(f *testing.F) {
	folders := map[LogStoreKind]folder{LogStoreBolt: storedLog(f, LogStoreBolt), LogStoreWAL: storedLog(f, LogStoreWAL)}
	for kind, good := range folders {
		checkDamaged(f, f.TempDir(), kind, good) // undamaged
		for file := range good.names {
			f.Add(kind == LogStoreWAL, uint8(file), uint32(0), uint32(0), true)
			f.Add(kind == LogStoreWAL, uint8(file), uint32(5000), uint32(1), false)
			f.Add(kind == LogStoreWAL, uint8(file), uint32(9000), ^uint32(0), true)
		}
	}
	f.Fuzz(func(t *testing.T, wal bool, file uint8, at, flip uint32, cut bool) {
		kind := LogStoreBolt
		if wal {
			kind = LogStoreWAL
		}
		good := folders[kind]
		name := good.names[int(file)%len(good.names)]
		bad := bytes.Clone(good.files[name])
		place := int(at) % len(bad)
		for i := place; i < min(place+4, len(bad)); i++ {
			bad[i] ^= byte(flip >> (8 * (i - place)))
		}
		if cut {
			bad = bad[:place]
		}
		checkDamaged(t, t.TempDir(), kind, good.with(name, bad))
	})
}

// folder is what a data folder holds.
type folder struct {
	names []string
	files map[string][]byte
}

func (f folder) with(name string, data []byte) folder {
	files := make(map[string][]byte)
	for other, have := range f.files {
		files[other] = have
	}
	files[name] = data
	return folder{f.names, files}
}

const storedEntries = 60

// storedEntry is what the log has at an index. Some entries take more than a page.
func storedEntry(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/20, Type: raft.LogCommand,
		Data: bytes.Repeat([]byte{byte(index), 'x'}, int(20+(index%7)*(index%7)*100))}
}

// storedLog makes a data folder with a log in it. The segments of the write-ahead log are smaller
// than a replica's: there are several, and a copy is soon made.
func storedLog(f *testing.F, kind LogStoreKind) folder {
	dir := f.TempDir()
	if kind == LogStoreWAL {
		if err := os.Mkdir(filepath.Join(dir, walFolder), 0o700); err != nil {
			f.Fatal(err)
		}
		wal, err := raftwal.Open(filepath.Join(dir, walFolder), raftwal.WithSegmentSize(32<<10), raftwal.WithLogger(hclog.NewNullLogger()))
		if err != nil {
			f.Fatal(err)
		}
		storeAll(f, &checkedLog{wal})
		if err := wal.Close(); err != nil {
			f.Fatal(err)
		}
	}
	s, err := openStores(dir, kind, hclog.NewNullLogger(), func(err error) { f.Fatal(err) })
	if err != nil {
		f.Fatal(err)
	}
	if kind == LogStoreBolt {
		storeAll(f, s.log)
	}
	if err := errors.Join(s.stable.SetUint64([]byte("CurrentTerm"), 4), s.close()); err != nil {
		f.Fatal(err)
	}
	return readFolder(f, dir)
}

func storeAll(f *testing.F, log raft.LogStore) {
	for first := uint64(1); first <= storedEntries; first += 4 {
		var entries []*raft.Log
		for index := first; index < first+4; index++ {
			entries = append(entries, storedEntry(index))
		}
		if err := log.StoreLogs(entries); err != nil {
			f.Fatal(err)
		}
	}
}

func readFolder(f *testing.F, dir string) folder {
	out := folder{files: make(map[string][]byte)}
	for _, pattern := range []string{boltFile, filepath.Join(walFolder, "*")} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			name, err := filepath.Rel(dir, path)
			if err != nil {
				f.Fatal(err)
			}
			if out.files[name], err = os.ReadFile(path); err != nil {
				f.Fatal(err)
			}
			out.names = append(out.names, name)
		}
	}
	slices.Sort(out.names)
	return out
}

// checkDamaged opens a folder as a replica does, and reads its log.
func checkDamaged(t testing.TB, dir string, kind LogStoreKind, have folder) {
	for name, data := range have.files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if checkStores(dir, kind) != nil {
		return
	}
	s, err := openStores(dir, kind, hclog.NewNullLogger(), func(error) {})
	if err != nil {
		return
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	for index := uint64(1); index <= storedEntries; index++ {
		var got raft.Log
		if s.log.GetLog(index, &got) != nil {
			continue
		}
		if want := storedEntry(index); got.Index != index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("entry %d is %+v", index, got)
		}
	}
}
