package batch

import (
	"context"
	"sync"
)

// Rounds runs one round at a time. A call never shares a round that began before it: calls that
// come while one is under way share the next. The zero value is ready.
type Rounds[T any] struct {
	mu      sync.Mutex
	running bool
	next    *round[T]
}

type round[T any] struct {
	done   chan struct{}
	result T
	err    error
}

// Do returns what a round that began after the call returned, or the context's cause. All calls
// on one Rounds pass the same function.
func (rr *Rounds[T]) Do(ctx context.Context, run func() (T, error)) (T, error) {
	r := rr.join(run)
	select {
	case <-r.done:
		return r.result, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

func (rr *Rounds[T]) join(run func() (T, error)) *round[T] {
	rr.mu.Lock()
	defer rr.mu.Unlock()
	if rr.next == nil {
		rr.next = &round[T]{done: make(chan struct{})}
	}
	r := rr.next
	if !rr.running {
		rr.running = true
		go rr.loop(run)
	}
	return r
}

func (rr *Rounds[T]) loop(run func() (T, error)) {
	for {
		r := rr.take()
		if r == nil {
			return
		}
		r.result, r.err = run()
		close(r.done)
	}
}

// take begins the next round; nil when nobody waits for one.
func (rr *Rounds[T]) take() *round[T] {
	rr.mu.Lock()
	defer rr.mu.Unlock()
	r := rr.next
	rr.next = nil
	rr.running = r != nil
	return r
}
