package raftnode

import (
	"container/heap"
	"context"
	"sync"
)

// watermark lets readers wait until an index has been applied.
type watermark struct {
	mu      sync.Mutex
	index   uint64
	waiters waiterHeap // the lowest index first
}

type waiter struct {
	index uint64
	done  chan struct{}
}

// advance raises the mark and wakes those who waited for it. It never falls.
func (w *watermark) advance(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index = max(w.index, index)
	for len(w.waiters) > 0 && w.waiters[0].index <= w.index {
		close(heap.Pop(&w.waiters).(waiter).done)
	}
}

// wait returns once the mark has reached an index, or the context's error. A waiter that gave
// up is removed when the mark passes it.
func (w *watermark) wait(ctx context.Context, index uint64) error {
	w.mu.Lock()
	if w.index >= index {
		w.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	heap.Push(&w.waiters, waiter{index, done})
	w.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

type waiterHeap []waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h waiterHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *waiterHeap) Push(x any)        { *h = append(*h, x.(waiter)) }
func (h *waiterHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
