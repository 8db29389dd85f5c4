package raftnode

import (
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-rtc/conclave/fsm"
)

// applier feeds committed entries to the state machine, many at once.
type applier struct {
	machine *fsm.Machine
	log     *parallelLog
	applied *watermark
	growth  *growth
	metrics *Metrics
	fatal   func(error)
}

var _ raft.BatchingFSM = (*applier)(nil)

// Apply is what raft.FSM asks for; raft calls ApplyBatch.
func (a *applier) Apply(entry *raft.Log) any { return a.ApplyBatch([]*raft.Log{entry})[0] }

// ApplyBatch applies entries in order. The answer to each is its []fsm.Result. Entries that
// change the Raft configuration come along and count as applied.
func (a *applier) ApplyBatch(logs []*raft.Log) []any {
	last := logs[len(logs)-1].Index
	if err := a.log.await(last); err != nil { // until then, a leader that dies may lose what is committed
		a.fatal(err)
		panic(err)
	}
	start := time.Now()
	entries := make([]fsm.Entry, len(logs))
	size := 0
	for i, l := range logs {
		entries[i] = fsm.Entry{Index: l.Index, Term: l.Term}
		if l.Type == raft.LogCommand {
			entries[i].Data = l.Data
			size += len(l.Data)
		}
	}
	results, err := a.machine.Apply(entries)
	if err != nil {
		a.fatal(fmt.Errorf("apply the Raft log: %w", err))
		panic(err) // the state must not be served, nor the log skipped
	}
	answers := make([]any, len(results))
	for i, r := range results {
		answers[i] = r
		if len(r) > 0 {
			a.metrics.batchSize.Observe(float64(len(r)))
		}
	}
	a.metrics.applyDuration.Observe(time.Since(start).Seconds())
	a.growth.applied.Add(uint64(size))
	a.applied.advance(last)
	return answers
}

// Snapshot takes a copy in constant time; Persist writes it while entries are applied.
func (a *applier) Snapshot() (raft.FSMSnapshot, error) {
	a.growth.writing.Store(true)
	return snapshot{a.machine.Snapshot(), a.growth, a.growth.applied.Load()}, nil
}

// Restore replaces the state by a snapshot.
func (a *applier) Restore(r io.ReadCloser) error {
	defer r.Close()
	if err := a.machine.Restore(r); err != nil {
		return err
	}
	a.growth.cover(a.growth.applied.Load())
	a.applied.advance(a.machine.Index())
	return nil
}

type snapshot struct {
	state   *fsm.State
	growth  *growth
	applied uint64 // when it was begun
}

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := fsm.WriteSnapshot(sink, s.state); err != nil {
		sink.Cancel()
		return err
	}
	if err := sink.Close(); err != nil {
		return err
	}
	s.growth.cover(s.applied)
	return nil
}

// Release is called by raft whether Persist succeeded or not.
func (s snapshot) Release() { s.growth.writing.Store(false) }
