package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// callTimeout is what a patient client has.
const callTimeout = 5 * time.Second

// write is one that was acknowledged; proof is what the answer said of it.
type write struct {
	key   string
	proof uint64
}

// writers send new writes through some replicas at a fixed pace, however slow the answers are, and
// keep what they saw.
type writers struct {
	cluster cluster
	prefix  string // of the keys
	end     context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	acks     []ack
	through  map[int]int // how many acknowledgements came through a replica
	written  []write
	failed   map[string]int // by reason
	fault    time.Time
	resumed  chan struct{} // closed when a write that was sent after the fault succeeded
	hasEnded bool
}

// startWriters starts one writer for each of the replicas.
func startWriters(ctx context.Context, c cluster, prefix string, replicas []int, pace time.Duration) *writers {
	ctx, end := context.WithCancel(ctx)
	w := &writers{
		cluster: c, prefix: prefix, end: end,
		through: make(map[int]int), failed: make(map[string]int), resumed: make(chan struct{}),
	}
	for _, r := range replicas {
		w.running.Go(func() { w.send(ctx, r, pace) })
	}
	return w
}

func (w *writers) send(ctx context.Context, replica int, pace time.Duration) {
	due := time.Now()
	for n := 0; ; n++ {
		if !sleepUntil(ctx, due) {
			return
		}
		w.running.Go(func() { w.once(ctx, replica, fmt.Sprintf("%s-%d-%d", w.prefix, replica, n)) })
		due = due.Add(pace)
	}
}

func (w *writers) once(ctx context.Context, replica int, key string) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sent := time.Now()
	proof, err := w.cluster.write(ctx, replica, key)
	came := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.acks = append(w.acks, ack{sent, came})
		w.through[replica]++
		w.written = append(w.written, write{key, proof})
		w.noteResumed(sent)
	case !w.hasEnded: // else it was given up
		w.failed[reasonOf(err)]++
	}
}

// noteResumed is called with the mutex held.
func (w *writers) noteResumed(sent time.Time) {
	if w.fault.IsZero() || !sent.After(w.fault) {
		return
	}
	select {
	case <-w.resumed:
	default:
		close(w.resumed)
	}
}

// faultTook says when a fault took hold. The channel is closed when a write that was sent after
// that has succeeded.
func (w *writers) faultTook(at time.Time) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = at
	for _, a := range w.acks {
		w.noteResumed(a.sent)
	}
	return w.resumed
}

// least is how many writes were acknowledged through that replica through which the fewest were.
func (w *writers) least(replicas []int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	least := len(w.acks)
	for _, r := range replicas {
		least = min(least, w.through[r])
	}
	return least
}

// stop sends no more, and gives up the writes that are still under way.
func (w *writers) stop() {
	w.mu.Lock()
	w.hasEnded = true
	w.mu.Unlock()
	w.end()
	w.running.Wait()
}

// sleepUntil returns false when ctx ends first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
