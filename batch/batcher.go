package batch

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

var (
	// ErrFull: as many calls wait as may wait. Nothing was sent.
	ErrFull = errors.New("too many calls are waiting")
	// ErrClosed: the batcher stopped while the call was under way. It may have been sent.
	ErrClosed = errors.New("stopped while a call was under way")
)

// Batcher sends what waits in batches and gives each call its own answer. Its methods may be
// called from several goroutines.
type Batcher[In, Out any] struct {
	send    func([]In) ([]Out, error)
	weigh   func(In) int
	limits  Limits
	queue   chan call[In, Out]
	queued  atomic.Int64   // the weight of what waits
	held    *call[In, Out] // taken from the queue, too much for the batch before
	slots   chan struct{}
	done    <-chan struct{}
	batches int
	// Of the last batch: its weight, and how long its send took. Idle is a batch of one.
	lastWeight atomic.Int64
	lastTook   atomic.Int64 // nanoseconds
	lastEnded  atomic.Int64 // nanoseconds since began
	began      time.Time
}

type call[In, Out any] struct {
	in     In
	answer chan<- answer[Out]
}

type answer[Out any] struct {
	out Out
	err error
}

// Limits bound a Batcher.
type Limits struct {
	// Batch is how many calls share one send. A group that is larger is sent alone.
	Batch int
	// Queue is how many calls may wait. A group that is larger never does.
	Queue int
	// InFlight is how many sends are under way at once.
	InFlight int
	// Linger is the longest that a batch waits for more calls. Only a batch that follows a larger
	// one waits, as long as that one took at most, and no longer once it is as large: callers
	// that were answered together come back together. 0: never.
	Linger time.Duration
	// Probe is how often, every so many batches, one waits however large it is: batches of callers that
	// take turns become one. Worth it where a batch costs much and a call is long under way. 0: never.
	Probe int
}

// NewBatcher starts a batcher that runs until done is closed. Send is given the calls of one
// batch; it returns an answer for each, or one error for all.
func NewBatcher[In, Out any](l Limits, done <-chan struct{}, send func([]In) ([]Out, error)) *Batcher[In, Out] {
	return newBatcher(l, done, func(In) int { return 1 }, send)
}

// NewGroupBatcher is NewBatcher for calls that bring a group each and are given a group of as many
// answers. Send is given the groups of one batch as one; what limits count is their members.
func NewGroupBatcher[In, Out any](l Limits, done <-chan struct{}, send func([]In) ([]Out, error)) *Batcher[[]In, []Out] {
	weigh := func(group []In) int { return max(1, len(group)) }
	return newBatcher(l, done, weigh, func(groups [][]In) ([][]Out, error) {
		outs, err := send(slices.Concat(groups...))
		if err != nil {
			return nil, err
		}
		answers := make([][]Out, len(groups))
		for i, group := range groups {
			answers[i], outs = outs[:len(group):len(group)], outs[len(group):]
		}
		return answers, nil
	})
}

func newBatcher[In, Out any](l Limits, done <-chan struct{}, weigh func(In) int, send func([]In) ([]Out, error)) *Batcher[In, Out] {
	b := &Batcher[In, Out]{
		send:   send,
		weigh:  weigh,
		limits: l,
		queue:  make(chan call[In, Out], l.Queue),
		slots:  make(chan struct{}, l.InFlight),
		done:   done,
		began:  time.Now(),
	}
	go b.run()
	return b
}

// Do sends one call and waits for its answer. When the context ends first, the call may still
// be sent. Errors: ErrFull, ErrClosed, the context's cause, or what send returned.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	var none Out
	answers := make(chan answer[Out], 1)
	if !b.enqueue(call[In, Out]{in, answers}) {
		return none, ErrFull
	}
	select {
	case a := <-answers:
		return a.out, a.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	case <-b.done:
		return none, ErrClosed
	}
}

// enqueue says whether there was room. What waits is at least as heavy as it is long, so the
// channel has room where the weight has.
func (b *Batcher[In, Out]) enqueue(c call[In, Out]) bool {
	weight := int64(b.weigh(c.in))
	if b.queued.Add(weight) > int64(b.limits.Queue) {
		b.queued.Add(-weight)
		return false
	}
	b.queue <- c
	return true
}

// run takes a slot before it looks at the queue, so that whatever comes while all slots are
// taken shares the next send.
func (b *Batcher[In, Out]) run() {
	for {
		select {
		case b.slots <- struct{}{}:
		case <-b.done:
			return
		}
		first, ok := b.next()
		if !ok {
			return
		}
		batch := b.collect(first)
		go func() {
			defer func() { <-b.slots }()
			b.deliver(batch)
		}()
	}
}

// next waits for the call that begins a batch; false when the batcher is done.
func (b *Batcher[In, Out]) next() (call[In, Out], bool) {
	if held := b.held; held != nil {
		b.held = nil
		return *held, true
	}
	select {
	case c := <-b.queue:
		return c, true
	case <-b.done:
		return call[In, Out]{}, false
	}
}

func (b *Batcher[In, Out]) collect(first call[In, Out]) []call[In, Out] {
	batch := append(make([]call[In, Out], 0, min(1+len(b.queue), b.limits.Batch)), first)
	weight := b.weigh(first.in)
	defer func() {
		b.queued.Add(-int64(weight))
		b.lastWeight.Store(int64(weight))
	}()
	enough := b.enough()
	var patience <-chan time.Time // nil: not begun
	for weight < b.limits.Batch {
		var c call[In, Out]
		select {
		case c = <-b.queue:
		default:
			if weight >= enough {
				return batch
			}
			if patience == nil {
				if patience = b.patience(); patience == nil {
					return batch
				}
			}
			select {
			case c = <-b.queue:
			case <-patience:
				return batch
			case <-b.done:
				return batch
			}
		}
		more := b.weigh(c.in)
		if weight+more > b.limits.Batch {
			b.held = &c
			return batch
		}
		batch = append(batch, c)
		weight += more
	}
	return batch
}

// enough is how heavy a batch must be to wait for no more calls.
func (b *Batcher[In, Out]) enough() int {
	b.batches++
	if b.limits.Probe > 0 && b.batches%b.limits.Probe == 0 {
		return b.limits.Batch
	}
	return int(b.lastWeight.Load())
}

// patience ends when a batch must not wait for more calls any longer; nil if it must not wait at all.
func (b *Batcher[In, Out]) patience() <-chan time.Time {
	took := time.Duration(b.lastTook.Load())
	wait := min(b.limits.Linger, took)
	quiet := time.Since(b.began) - time.Duration(b.lastEnded.Load())
	if wait <= 0 || b.lastWeight.Load() <= 1 || quiet > b.limits.Linger+took {
		return nil // nobody is there who would come back
	}
	return time.After(wait)
}

func (b *Batcher[In, Out]) deliver(batch []call[In, Out]) {
	ins := make([]In, len(batch))
	for i, c := range batch {
		ins[i] = c.in
	}
	began := time.Now()
	outs, err := b.send(ins)
	ended := time.Now()
	b.lastTook.Store(int64(ended.Sub(began)))
	b.lastEnded.Store(int64(ended.Sub(b.began)))
	for i, c := range batch {
		a := answer[Out]{err: err}
		if err == nil {
			a.out = outs[i]
		}
		c.answer <- a
	}
}
