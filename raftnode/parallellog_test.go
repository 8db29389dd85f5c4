package raftnode

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// gatedStore writes when it is let.
type gatedStore struct {
	raft.LogStore
	open chan struct{}
}

func (g gatedStore) StoreLogs(entries []*raft.Log) error {
	<-g.open
	return g.LogStore.StoreLogs(entries)
}

func entriesFrom(first uint64, count int) (entries []*raft.Log) {
	for i := range count {
		entries = append(entries, &raft.Log{Index: first + uint64(i), Term: 1, Data: []byte{byte(i)}})
	}
	return entries
}

// newGatedLog is the log of a leader whose disk writes once for each value sent to open.
func newGatedLog() (p *parallelLog, leads *atomic.Bool, open chan struct{}) {
	leads, open = new(atomic.Bool), make(chan struct{})
	leads.Store(true)
	return newParallelLog(&durableLog{LogStore: gatedStore{raft.NewInmemStore(), open}}, leads.Load), leads, open
}

// A leader goes on while its disk writes; everything that tells of an entry waits.
func TestALeadersEntriesArePendingUntilStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _, open := newGatedLog()
		first := p.StoreLogs(entriesFrom(1, 2))
		synctest.Wait() // until it is being written
		if err := errors.Join(first, p.StoreLogs(entriesFrom(3, 2))); err != nil {
			t.Fatal(err)
		}
		if last, err := p.LastIndex(); err != nil || last != 4 {
			t.Errorf("the log ends with %d, %v; want 4", last, err)
		}
		for index := range uint64(4) {
			var got raft.Log
			if err := p.GetLog(index+1, &got); err != nil || got.Index != index+1 {
				t.Errorf("entry %d is %d, %v", index+1, got.Index, err)
			}
		}
		if got := p.storedUpTo(4); got != 0 {
			t.Errorf("stored up to %d, want nothing", got)
		}
		var reached atomic.Uint64
		for _, index := range []uint64{1, 4} {
			go func() {
				if p.await(index) == nil {
					reached.Add(index)
				}
			}()
		}
		synctest.Wait()
		if reached.Load() != 0 {
			t.Error("an entry was awaited before it was stored")
		}
		open <- struct{}{} // the first write: what there was when it began
		synctest.Wait()
		if reached.Load() != 1 || p.storedUpTo(4) != 2 {
			t.Errorf("after entries 1 and 2 were stored: awaited %d, stored up to %d", reached.Load(), p.storedUpTo(4))
		}
		open <- struct{}{}
		synctest.Wait()
		if reached.Load() != 5 || p.storedUpTo(4) != 4 || p.storedUpTo(3) != 3 {
			t.Errorf("after all were stored: awaited %d, stored up to %d", reached.Load(), p.storedUpTo(4))
		}
	})
}

// What a follower answers, and raft acts upon before it is applied, is on the disk; and so is all before.
func TestOthersEntriesAreStoredAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name  string
		write func(p *parallelLog, leads *atomic.Bool) error
		last  uint64 // that is stored in the end
	}{
		{"as a follower", func(p *parallelLog, leads *atomic.Bool) error {
			leads.Store(false)
			return p.StoreLogs(entriesFrom(3, 1))
		}, 3},
		{"a configuration", func(p *parallelLog, _ *atomic.Bool) error {
			return p.StoreLog(&raft.Log{Index: 3, Term: 1, Type: raft.LogConfiguration})
		}, 3},
		{"a cut", func(p *parallelLog, leads *atomic.Bool) error {
			leads.Store(false)
			return p.DeleteRange(2, 2)
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, leads, open := newGatedLog()
				if err := p.StoreLogs(entriesFrom(1, 2)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				done := make(chan error, 1)
				go func() { done <- tc.write(p, leads) }()
				synctest.Wait()
				select {
				case err := <-done:
					t.Errorf("it returned before what came before was stored: %v", err)
				default:
				}
				close(open)
				if err := <-done; err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if last, err := p.durableLog.LastIndex(); err != nil || last != tc.last {
					t.Errorf("stored up to %d, %v; want %d", last, err, tc.last)
				}
			})
		})
	}
}

// Behind an entry that could not be written there must be none.
func TestNothingIsWrittenAfterAFailedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fatal atomic.Int64
		p := newParallelLog(&durableLog{LogStore: brokenStore{raft.NewInmemStore()}, fatal: func(error) {
			fatal.Add(1)
			runtime.Goexit()
		}}, func() bool { return true })
		for i := range uint64(3) {
			if err := p.StoreLogs(entriesFrom(i+1, 1)); errors.Is(err, errNotWritten) != (i > 0) {
				t.Errorf("entry %d: %v", i+1, err)
			}
			synctest.Wait()
		}
		for what, err := range map[string]error{
			"waiting for it":    p.await(1),
			"cutting it off":    p.DeleteRange(1, 1),
			"writing behind it": p.StoreLog(&raft.Log{Index: 2, Term: 1, Type: raft.LogNoop}),
		} {
			if !errors.Is(err, errNotWritten) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if fatal.Load() != 1 || p.storedUpTo(3) != 0 {
			t.Errorf("%d writes failed, stored up to %d; want one, and nothing", fatal.Load(), p.storedUpTo(3))
		}
	})
}

// Every entry of a leader reaches the disk, in order, whatever the pace.
func TestPendingEntriesReachTheDisk(t *testing.T) {
	s, err := openWAL(filepath.Join(t.TempDir(), "wal"), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := newParallelLog(&durableLog{LogStore: &checkedLog{s}, fatal: func(err error) { t.Error(err) }}, func() bool { return true })
	const batches, each = 200, 5
	for i := range uint64(batches) {
		if err := p.StoreLogs(entriesFrom(i*each+1, each)); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			if err := p.await(i * each); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.await(batches * each); err != nil {
		t.Fatal(err)
	}
	for index := uint64(1); index <= batches*each; index++ {
		var got raft.Log
		if err := p.durableLog.GetLog(index, &got); err != nil || got.Index != index || got.Data[0] != byte((index-1)%each) {
			t.Fatalf("entry %d on the disk is %v, %v", index, got, err)
		}
	}
}
