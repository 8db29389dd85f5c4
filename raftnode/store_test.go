package raftnode

import (
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var errBroken = errors.New("input/output error")

// brokenStore fails every write.
type brokenStore struct{ raft.LogStore }

func (brokenStore) StoreLogs([]*raft.Log) error   { return errBroken }
func (brokenStore) DeleteRange(_, _ uint64) error { return errBroken }

// After a failed fsync nobody knows what is on the disk, and the next fsync may lie.
func TestAFailedWriteIsFatal(t *testing.T) {
	for _, tc := range []struct {
		name  string
		write func(l *durableLog) error
	}{
		{"store one", func(l *durableLog) error { return l.StoreLog(&raft.Log{Index: 1}) }},
		{"store many", func(l *durableLog) error { return l.StoreLogs([]*raft.Log{{Index: 1}, {Index: 2}}) }},
		{"trim", func(l *durableLog) error { return l.DeleteRange(1, 2) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var fatal []error
			l := &durableLog{LogStore: brokenStore{raft.NewInmemStore()}, fatal: func(err error) { fatal = append(fatal, err) }}
			err := tc.write(l)
			if !errors.Is(err, errBroken) {
				t.Errorf("got %v, want the store's error", err)
			}
			if len(fatal) != 1 || !errors.Is(fatal[0], errBroken) {
				t.Errorf("fatal was told %v, want the store's error once", fatal)
			}
		})
	}
}

// hangingStore does not return from a write until it is let go.
type hangingStore struct {
	raft.LogStore
	entered, letGo chan struct{}
}

func (h hangingStore) StoreLogs([]*raft.Log) error {
	h.entered <- struct{}{}
	<-h.letGo
	return nil
}

func TestAHangingWriteIsSeen(t *testing.T) {
	h := hangingStore{raft.NewInmemStore(), make(chan struct{}), make(chan struct{})}
	l := &durableLog{LogStore: h}
	if l.stalled() != 0 {
		t.Error("an idle log is stalled")
	}
	done := make(chan error)
	go func() { done <- l.StoreLogs(nil) }()
	<-h.entered
	for start := time.Now(); l.stalled() == 0; {
		if time.Since(start) > 10*time.Second {
			t.Fatal("a hanging write is not seen")
		}
	}
	close(h.letGo)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if l.stalled() != 0 {
		t.Error("the log is stalled after the write")
	}
}
