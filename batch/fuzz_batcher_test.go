package batch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzBatcher reads the bytes as limits and then as what happens: groups that are brought, callers
// that give up, sends that fail, time that passes. Whatever it is, a group is sent once, whole and
// in its turn, with no more company than the limits allow, and its caller gets its own answers.
func FuzzBatcher(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{3, 9, 0, 0, 1, 0, 2, 0, 3, 3, 0, 0, 4, 3, 0})
	f.Add([]byte{1, 20, 1, 0, 9, 0, 0, 1, 1, 2, 0, 3, 0, 2, 1, 3, 0, 0, 30, 3, 0})
	f.Add([]byte{7, 23, 2, 0, 1, 0, 1, 0, 1, 0, 7, 0, 3, 0, 2, 3, 0, 4, 0, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) < 3 {
			return
		}
		limits := Limits{Batch: 1 + int(script[0])%8, Queue: 1 + int(script[1])%24, InFlight: 1 + int(script[2])%3}
		synctest.Test(t, func(t *testing.T) {
			b := newGroupBench(t, limits)
			for steps := script[3:min(len(script), 200)]; len(steps) >= 2; steps = steps[2:] {
				b.step(steps[0], int(steps[1]))
			}
			b.end()
		})
	})
}

var errLine = errors.New("the line is broken")

// groupBench is a group batcher over a slow line, each send takes a second of the bubble's time,
// and what its callers know.
type groupBench struct {
	*testing.T
	*Batcher[[]int, []int]
	limits  Limits
	done    chan struct{}
	members int // drawn so far; each has its own number
	calls   []*groupCall

	mu       sync.Mutex
	fails    bool
	sends    [][]int
	failed   map[int]bool // by member
	underWay int
}

type groupCall struct {
	group    []int
	cancel   context.CancelFunc
	gaveUp   bool
	full     bool // there was no room for it
	answered chan struct{}
	out      []int
	err      error
}

func newGroupBench(t *testing.T, limits Limits) *groupBench {
	b := &groupBench{T: t, limits: limits, done: make(chan struct{}), failed: make(map[int]bool)}
	b.Batcher = NewGroupBatcher(limits, b.done, b.send)
	synctest.Wait()
	return b
}

func (b *groupBench) send(all []int) ([]int, error) {
	b.mu.Lock()
	b.sends = append(b.sends, slices.Clone(all))
	if b.underWay++; b.underWay > b.limits.InFlight {
		b.Errorf("%d sends are under way, at most %d may be", b.underWay, b.limits.InFlight)
	}
	fails := b.fails
	for _, member := range all {
		b.failed[member] = fails
	}
	b.mu.Unlock()
	time.Sleep(time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay--
	if fails {
		return nil, errLine
	}
	out := make([]int, len(all))
	for i, member := range all {
		out[i] = -member
	}
	return out, nil
}

func (b *groupBench) step(what byte, n int) {
	switch what % 5 {
	case 0, 1:
		b.bring(1 + n%12)
	case 2: // a caller gives up
		if len(b.calls) > 0 {
			c := b.calls[n%len(b.calls)]
			c.gaveUp = true
			c.cancel()
		}
	case 3:
		time.Sleep(time.Duration(1+n%3) * time.Second / 2)
	case 4: // the line breaks, or is mended
		b.mu.Lock()
		b.fails = !b.fails
		b.mu.Unlock()
	}
	synctest.Wait()
}

// bring has a caller of its own bring a group.
func (b *groupBench) bring(size int) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &groupCall{cancel: cancel, answered: make(chan struct{}), full: b.waiting()+size > b.limits.Queue}
	for range size {
		b.members++
		c.group = append(c.group, b.members)
	}
	b.calls = append(b.calls, c)
	go func() {
		defer close(c.answered)
		c.out, c.err = b.Do(ctx, c.group)
	}()
}

// waiting is how many members wait to be sent.
func (b *groupBench) waiting() int {
	members := 0
	for _, c := range b.calls {
		if !c.full && !b.sent(c) {
			members += len(c.group)
		}
	}
	return members
}

func (b *groupBench) sent(c *groupCall) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, sent := b.failed[c.group[0]]
	return sent
}

// end lets everything be sent and looks at it.
func (b *groupBench) end() {
	time.Sleep(time.Hour)
	synctest.Wait()
	close(b.done)
	b.checkSends()
	for _, c := range b.calls {
		<-c.answered
		c.cancel()
		b.checkAnswer(c)
	}
}

// checkSends holds the sends against the groups, both in the order in which groups came.
func (b *groupBench) checkSends() {
	slices.SortFunc(b.sends, func(x, y []int) int { return x[0] - y[0] }) // two may begin at once
	next := 0
	for _, send := range b.sends {
		left, groups := send, 0
		for ; len(left) > 0 && next < len(b.calls); next++ {
			c := b.calls[next]
			if c.full {
				continue
			}
			if len(left) < len(c.group) || !slices.Equal(left[:len(c.group)], c.group) {
				b.Fatalf("a send of %v, where %v was next", send, c.group)
			}
			left = left[len(c.group):]
			groups++
		}
		if len(left) > 0 {
			b.Fatalf("a send of %v: nobody waited with %v", send, left)
		}
		if len(send) > b.limits.Batch && groups > 1 {
			b.Errorf("%d members of %d groups share a send, at most %d may", len(send), groups, b.limits.Batch)
		}
	}
	for ; next < len(b.calls); next++ {
		if !b.calls[next].full {
			b.Errorf("%v was never sent", b.calls[next].group)
		}
	}
}

func (b *groupBench) checkAnswer(c *groupCall) {
	switch {
	case c.full:
		if !errors.Is(c.err, ErrFull) {
			b.Errorf("%v came when there was no room: %v, %v", c.group, c.out, c.err)
		}
	case c.gaveUp && errors.Is(c.err, context.Canceled):
	case b.failed[c.group[0]]:
		if !errors.Is(c.err, errLine) {
			b.Errorf("the send of %v failed: %v, %v", c.group, c.out, c.err)
		}
	default:
		ownAnswer := func(member, out int) bool { return out == -member }
		if c.err != nil || !slices.EqualFunc(c.group, c.out, ownAnswer) {
			b.Errorf("%v is answered %v, %v", c.group, c.out, c.err)
		}
	}
}
