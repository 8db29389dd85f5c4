package diskfault

import (
	"io"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// What is written while a fault lasts fails, and what reaches the store is what the fault says.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name   string
		fault  Fault
		failed []uint64 // of the entries 1 to 4, written one by one
		last   uint64   // that the store has
	}{
		{"none", Fault{}, nil, 4},
		{"full", Fault{Error: "no space left"}, []uint64{1, 2, 3, 4}, 0},
		{"fails after it was written", Fault{Error: "bad sync", Written: true}, []uint64{1, 2, 3, 4}, 4},
		{"fails later", Fault{Error: "no space left", After: 3}, []uint64{4}, 3},
		{"fails once", Fault{Error: "no space left", After: 1, Once: true}, []uint64{2}, 4},
		{"another store's", Fault{Error: "no space left", Only: Votes}, nil, 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			dataDir, store := filepath.Join(t.TempDir(), "data"), raft.NewInmemStore()
			log := Of(dataDir).Log(store)
			if err := Set(dataDir, test.fault); err != nil {
				t.Fatal(err)
			}
			failed := make(map[uint64]bool)
			for index := range uint64(4) {
				failed[index+1] = log.StoreLog(&raft.Log{Index: index + 1}) != nil
			}
			for index := range uint64(4) {
				want := false
				for _, f := range test.failed {
					want = want || f == index+1
				}
				if failed[index+1] != want {
					t.Errorf("entry %d failed: %v, want %v", index+1, failed[index+1], want)
				}
			}
			if last, _ := store.LastIndex(); last != test.last {
				t.Errorf("the store ends with %d, want %d", last, test.last)
			}
			if err := Clear(dataDir); err != nil {
				t.Fatal(err)
			}
			if err := log.StoreLog(&raft.Log{Index: 5}); err != nil {
				t.Errorf("after the fault was cleared: %v", err)
			}
		})
	}
}

func TestDelayEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dataDir := filepath.Join(t.TempDir(), "data")
		if err := Set(dataDir, Fault{Delay: time.Second, Once: true}); err != nil {
			t.Fatal(err)
		}
		stable, began := Of(dataDir).Stable(raft.NewInmemStore()), time.Now()
		for range 2 {
			if err := stable.SetUint64([]byte("term"), 7); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("two votes took %v, want one second: one of them is delayed", took)
		}
	})
}

func TestSnapshotFails(t *testing.T) {
	dataDir := filepath.Join(t.TempDir(), "data")
	store, err := raft.NewFileSnapshotStoreWithLogger(dataDir, 1, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	snapshots := Of(dataDir).Snapshots(store)
	if err := Set(dataDir, Fault{Only: Snapshots, Error: "no space left"}); err != nil {
		t.Fatal(err)
	}
	_, transport := raft.NewInmemTransport("a")
	sink, err := snapshots.Create(raft.SnapshotVersionMax, 1, 1, raft.Configuration{}, 1, transport)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(sink, "state"); err == nil {
		t.Error("a snapshot was written onto a full disk")
	}
	if err := sink.Cancel(); err != nil {
		t.Error(err)
	}
	if kept, err := snapshots.List(); err != nil || len(kept) != 0 {
		t.Errorf("%d snapshots are kept (%v), want none", len(kept), err)
	}
}
