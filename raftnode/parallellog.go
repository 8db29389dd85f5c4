package raftnode

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
)

// parallelLog lets a leader write to its disk while its followers write to theirs, instead of before
// (Ongaro's thesis, section 10.2.1): a commit waits for the slower of the two, not for both in turn.
//
// Raft counts the leader's own entry as stored once StoreLogs has returned, so what it takes for
// committed may lack a majority of disks until this one has it. Until then nobody may learn of it: the
// applier awaits the entry, and the transport tells followers of no more than what is stored.
//
// A follower's entries, and those that raft acts upon before they are applied, are stored when StoreLogs
// returns, and so is everything before them. (A leader that follows another one may acknowledge an entry
// that is still pending. It is of an older term, and raft commits those only together with one of the new
// leader's, which this log takes after it.)
type parallelLog struct {
	*durableLog
	// leads says whether raft appends as the leader. Raft calls StoreLogs on the goroutine that
	// makes it leader and follower, so what it says holds for the call. (That needs a transport
	// without raft's short cut for heartbeats.)
	leads func() bool

	mu      sync.Mutex
	stored  sync.Cond   // pending has become less
	pending []*raft.Log // not on the disk yet, in order
	writing bool
	failed  bool
}

// errNotWritten: a write before has failed, and the process is about to end.
var errNotWritten = errors.New("the log takes no entries after a write that failed")

func newParallelLog(log *durableLog, leads func() bool) *parallelLog {
	p := &parallelLog{durableLog: log, leads: leads}
	p.stored.L = &p.mu
	return p
}

func (p *parallelLog) StoreLog(entry *raft.Log) error { return p.StoreLogs([]*raft.Log{entry}) }

func (p *parallelLog) StoreLogs(entries []*raft.Log) error {
	if !p.leads() || slices.ContainsFunc(entries, func(l *raft.Log) bool { return l.Type != raft.LogCommand }) {
		if err := p.await(math.MaxUint64); err != nil {
			return err
		}
		return p.durableLog.StoreLogs(entries)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed {
		return errNotWritten
	}
	p.pending = append(p.pending, entries...)
	if !p.writing {
		p.writing = true
		go p.write()
	}
	return nil
}

// write stores what is pending, all that has gathered at once. After a write that failed, which ends
// the process, nothing is written any more.
func (p *parallelLog) write() {
	done := false
	defer func() { // whether the write returned, or what it told ended this goroutine
		p.mu.Lock()
		defer p.mu.Unlock()
		p.failed = !done
		p.stored.Broadcast()
	}()
	for {
		p.mu.Lock()
		entries := p.pending
		p.writing = len(entries) > 0
		p.mu.Unlock()
		if len(entries) == 0 {
			done = true
			return
		}
		if p.durableLog.StoreLogs(entries) != nil {
			return
		}
		p.mu.Lock()
		if p.pending = p.pending[len(entries):]; len(p.pending) == 0 {
			p.pending = nil
		}
		p.stored.Broadcast()
		p.mu.Unlock()
	}
}

// await returns nil once no entry up to an index is pending, and errNotWritten when one never will be
// stored.
func (p *parallelLog) await(index uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.pending) > 0 && p.pending[0].Index <= index {
		if p.failed {
			return errNotWritten
		}
		p.stored.Wait()
	}
	return nil
}

// storedUpTo is an index, or the last one before it up to which every entry is on the disk.
func (p *parallelLog) storedUpTo(index uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) > 0 {
		return min(index, p.pending[0].Index-1)
	}
	return index
}

// LastIndex is that of the last entry, stored or pending.
func (p *parallelLog) LastIndex() (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.pending); n > 0 {
		return p.pending[n-1].Index, nil
	}
	return p.durableLog.LastIndex()
}

// GetLog reads an entry, stored or pending.
func (p *parallelLog) GetLog(index uint64, entry *raft.Log) error {
	if pending := p.pendingAt(index); pending != nil {
		*entry = *pending
		return nil
	}
	return p.durableLog.GetLog(index, entry)
}

func (p *parallelLog) pendingAt(index uint64) *raft.Log {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, found := slices.BinarySearchFunc(p.pending, index, func(l *raft.Log, index uint64) int { return cmp.Compare(l.Index, index) })
	if !found {
		return nil
	}
	return p.pending[i]
}

func (p *parallelLog) DeleteRange(from, to uint64) error {
	if err := p.await(to); err != nil {
		return err
	}
	return p.durableLog.DeleteRange(from, to)
}
