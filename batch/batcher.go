package batch

import (
	"context"
	"errors"
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
	send  func([]In) ([]Out, error)
	queue chan call[In, Out]
	slots chan struct{}
	max   int
	done  <-chan struct{}
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
	// Batch is how many calls share one send.
	Batch int
	// Queue is how many calls may wait.
	Queue int
	// InFlight is how many sends are under way at once.
	InFlight int
}

// NewBatcher starts a batcher that runs until done is closed. Send is given the calls of one
// batch; it returns an answer for each, or one error for all.
func NewBatcher[In, Out any](l Limits, done <-chan struct{}, send func([]In) ([]Out, error)) *Batcher[In, Out] {
	b := &Batcher[In, Out]{
		send:  send,
		queue: make(chan call[In, Out], l.Queue),
		slots: make(chan struct{}, l.InFlight),
		max:   l.Batch,
		done:  done,
	}
	go b.run()
	return b
}

// Do sends one call and waits for its answer. When the context ends first, the call may still
// be sent. Errors: ErrFull, ErrClosed, the context's cause, or what send returned.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	var none Out
	answers := make(chan answer[Out], 1)
	select {
	case b.queue <- call[In, Out]{in, answers}:
	default:
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

// run takes a slot before it looks at the queue, so that whatever comes while all slots are
// taken shares the next send.
func (b *Batcher[In, Out]) run() {
	for {
		select {
		case b.slots <- struct{}{}:
		case <-b.done:
			return
		}
		select {
		case first := <-b.queue:
			batch := b.collect(first)
			go func() {
				defer func() { <-b.slots }()
				b.deliver(batch)
			}()
		case <-b.done:
			return
		}
	}
}

func (b *Batcher[In, Out]) collect(first call[In, Out]) []call[In, Out] {
	batch := append(make([]call[In, Out], 0, min(1+len(b.queue), b.max)), first)
	for len(batch) < b.max {
		select {
		case c := <-b.queue:
			batch = append(batch, c)
		default:
			return batch
		}
	}
	return batch
}

func (b *Batcher[In, Out]) deliver(batch []call[In, Out]) {
	ins := make([]In, len(batch))
	for i, c := range batch {
		ins[i] = c.in
	}
	outs, err := b.send(ins)
	for i, c := range batch {
		a := answer[Out]{err: err}
		if err == nil {
			a.out = outs[i]
		}
		c.answer <- a
	}
}
