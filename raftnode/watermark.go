package raftnode

import (
	"container/heap"
	"context"
	"errors"
	"sync"
)

// errClosed: the replica was shut down while something waited for its log.
var errClosed = errors.New("the replica was shut down")

// watermark lets readers wait until an index has been applied.
type watermark struct {
	mu      sync.Mutex
	index   uint64
	waiters waiterHeap // the lowest index first
}

type waiter struct {
	index uint64
	done  chan struct{}
	place int // in the heap; -1 once it is out
}

// advance raises the mark and wakes those who waited for it. It never falls.
func (w *watermark) advance(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index = max(w.index, index)
	for len(w.waiters) > 0 && w.waiters[0].index <= w.index {
		close(heap.Pop(&w.waiters).(*waiter).done)
	}
}

// wait returns once the mark has reached an index, the context's error, or errClosed once closed
// is. Who gives up leaves nothing behind: the index may never come.
func (w *watermark) wait(ctx context.Context, closed <-chan struct{}, index uint64) error {
	w.mu.Lock()
	if w.index >= index {
		w.mu.Unlock()
		return nil
	}
	self := &waiter{index: index, done: make(chan struct{})}
	heap.Push(&w.waiters, self)
	w.mu.Unlock()
	select {
	case <-self.done:
		return nil
	case <-ctx.Done():
		w.leave(self)
		return context.Cause(ctx)
	case <-closed:
		w.leave(self)
		return errClosed
	}
}

func (w *watermark) leave(self *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if self.place >= 0 {
		heap.Remove(&w.waiters, self.place)
	}
}

type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *waiterHeap) Push(x any) {
	self := x.(*waiter)
	self.place = len(*h)
	*h = append(*h, self)
}

func (h *waiterHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	last.place = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
