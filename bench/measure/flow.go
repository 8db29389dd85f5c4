package measure

import (
	"context"
	"fmt"
	"time"
)

// flow is what goes through one pipe. One goroutine sends, another receives; what they share goes
// through channels, once for each batch and not for each call.
type flow struct {
	*lane
	pipe Pipe
	room chan int   // calls that may be sent, in any number of parts
	sent chan batch // in their order; closed when nothing more is sent
	// broke ends the waiting of whoever sends.
	broke context.CancelFunc

	// Of the goroutine that receives: what was answered, when, and what was refused of it.
	decided  int
	answered time.Time
	refused  map[int]string
}

// send sends until the time is over or the context ends.
func (f *flow) send(ctx context.Context) error {
	room := 0
	for {
		more, ok := f.wait(ctx, room)
		if !ok {
			return f.pipe.CloseSend()
		}
		room = more
		now := time.Now()
		count := f.ready(now, min(room, f.plan.Batch))
		if count == 0 {
			return f.pipe.CloseSend()
		}
		f.sent <- batch{first: f.next, count: count, sent: now}
		if err := f.pipe.Send(f.next, count); err != nil {
			return fmt.Errorf("send through a pipe: %w", err)
		}
		f.next += count
		room -= count
	}
}

// wait waits until there is room and a call is due, and returns the room; false when nothing more
// is to be sent.
func (f *flow) wait(ctx context.Context, room int) (int, bool) {
	for room == 0 {
		select {
		case n := <-f.room:
			room += n
		case <-ctx.Done():
			return 0, false
		}
	}
	if f.plan.Rate > 0 {
		due := f.due(f.next)
		if !due.Before(f.tally.window.to) || !sleepUntil(ctx, due.Add(f.plan.Gather)) {
			return 0, false
		}
	}
	for {
		select {
		case n := <-f.room:
			room += n
		default:
			return room, ctx.Err() == nil
		}
	}
}

// ready is how many calls are to be sent now, at most so many; 0 when the time is over.
func (f *flow) ready(now time.Time, most int) int {
	end := f.tally.window.to
	if f.plan.Rate == 0 {
		if !now.Before(end) {
			return 0
		}
		return most
	}
	if now.After(f.begin.Add(f.plan.WarmUp + lateness*f.plan.Time)) {
		return 0
	}
	count := 0
	for count < most {
		due := f.due(f.next + count)
		if due.After(now) || !due.Before(end) {
			break
		}
		count++
	}
	return count
}

// receive notes the answer to everything that is sent. After an error it notes the rest as failed.
func (f *flow) receive() (err error) {
	f.refused = make(map[int]string)
	for b := range f.sent {
		for call := b.first; call < b.first+b.count; call++ {
			for err == nil && f.decided <= call {
				if err = f.answer(); err != nil {
					f.broke()
				}
			}
			f.note(b, call, err)
		}
		if err == nil {
			f.room <- b.count
		}
	}
	return err
}

func (f *flow) answer() error {
	decided, refusals, err := f.pipe.Receive()
	if err != nil {
		return fmt.Errorf("receive from a pipe: %w", err)
	}
	f.decided, f.answered = decided, time.Now()
	for _, r := range refusals {
		f.refused[r.Call] = r.Reason
	}
	return nil
}

func (f *flow) note(b batch, call int, err error) {
	began := b.sent
	if f.plan.Rate > 0 {
		began = f.due(call)
	}
	reason, refused := f.refused[call]
	switch {
	case err != nil:
		f.tally.failed(began, f.plan.Reason(err))
	case refused:
		delete(f.refused, call)
		f.tally.failed(began, reason)
	default:
		f.tally.done(began, f.answered)
	}
}
