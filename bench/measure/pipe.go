package measure

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Pipe carries many calls at once, numbered from 0 and answered in their order. Send and Receive
// may run at the same time; neither is called twice at once.
type Pipe interface {
	// Send sends the calls first to first+count-1, and does not wait for answers.
	Send(first, count int) error
	// Receive waits for an answer. All calls below decided are answered by now; of those that were
	// not before, the refused ones failed.
	Receive() (decided int, refused []Refusal, err error)
	// CloseSend says that nothing more will be sent.
	CloseSend() error
}

// Refusal is a call of a pipe that failed.
type Refusal struct {
	Call   int
	Reason string
}

// Pipes says how calls are made through pipes. Callers of Plan is how many pipes there are, and
// CallTimeout how long answers may come after the end; an open loop's rate is that of all pipes.
type Pipes struct {
	Plan
	// Window is how many calls of a pipe may be without an answer, Batch how many at most are sent
	// at once.
	Window, Batch int
	// Gather is how long a call of an open loop waits for others that are due, to be sent with them.
	Gather time.Duration
}

// reopenAfter keeps a pipe that breaks at once from being opened all the time.
const reopenAfter = 50 * time.Millisecond

// RunPipes makes the calls of a plan through pipes. open opens the pipe of a caller, and a new one
// after it broke; the calls that were without an answer then have failed. When the context ends
// first, its cause is returned.
func RunPipes(ctx context.Context, p Pipes, open func(ctx context.Context, caller int) (Pipe, error)) (*Sample, error) {
	if p.Callers < 1 || p.Time <= 0 || p.CallTimeout <= 0 || p.Window < 1 || p.Batch < 1 {
		return nil, errors.New("measure: pipes, time, the call timeout, window and batch must be above zero")
	}
	begin := time.Now()
	window := window{from: begin.Add(p.WarmUp), to: begin.Add(p.WarmUp + p.Time)}
	lanes := make([]*lane, p.Callers)
	var running sync.WaitGroup
	for i := range lanes {
		l := &lane{plan: p, tally: newTally(), begin: begin, caller: i,
			open: func(ctx context.Context) (Pipe, error) { return open(ctx, i) }}
		l.tally.window = window
		lanes[i] = l
		running.Go(func() { l.run(ctx) })
	}
	running.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	total := newTally()
	var unsent int64
	for _, l := range lanes {
		total.merge(l.tally)
		unsent += l.unsent()
	}
	sample := total.sample(window.to.Sub(window.from))
	sample.Unsent = unsent
	return sample, nil
}

// lane is one caller with its pipes, one after the other.
type lane struct {
	plan   Pipes
	caller int
	open   func(context.Context) (Pipe, error)
	begin  time.Time
	tally  *tally // of the goroutine that receives
	next   int    // the call that is sent next; of the goroutine that sends
}

// batch is what was sent at once.
type batch struct {
	first, count int
	sent         time.Time
}

func (l *lane) run(ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, l.tally.window.to.Add(l.plan.CallTimeout))
	defer cancel()
	for time.Now().Before(l.tally.window.to) && ctx.Err() == nil {
		opened := time.Now()
		if !l.once(ctx) {
			sleepUntil(ctx, opened.Add(reopenAfter))
		}
	}
}

// once uses one pipe until the time is over; false when it could not be opened or broke.
func (l *lane) once(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pipe, err := l.open(ctx)
	if err != nil {
		l.tally.failed(time.Now(), l.plan.Reason(err))
		return false
	}
	// Neither channel is ever full: there is no more in them than the window holds.
	f := &flow{lane: l, pipe: pipe, broke: cancel,
		room: make(chan int, l.plan.Window+1), sent: make(chan batch, l.plan.Window)}
	f.room <- l.plan.Window
	received := make(chan error, 1)
	go func() { received <- f.receive() }()
	sendErr := f.send(ctx)
	close(f.sent)
	return <-received == nil && sendErr == nil
}

// due is when a call of this lane is to be made in an open loop. The lanes take turns.
func (l *lane) due(call int) time.Time {
	interval := float64(time.Second) / l.plan.Rate
	return l.begin.Add(time.Duration(float64(call*l.plan.Callers+l.caller) * interval))
}

// unsent counts the calls that were due in the time measured and never sent.
func (l *lane) unsent() int64 {
	if l.plan.Rate == 0 {
		return 0
	}
	var n int64
	for call := l.next; l.due(call).Before(l.tally.window.to); call++ {
		if !l.due(call).Before(l.tally.window.from) {
			n++
		}
	}
	return n
}
