package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	// calm is how long writes go on before a fault, and up to half as long again: faults must not
	// keep step with heartbeats.
	calm = 500 * time.Millisecond
	// calmWrites is how many of them each surviving replica must have acknowledged at least.
	calmWrites = 10
	// tail is how long writes go on after the gap.
	tail = 250 * time.Millisecond
	// recoveryPatience bounds the gap.
	recoveryPatience = 30 * time.Second
)

// outcome is what one fault did.
type outcome struct {
	Gap time.Duration `json:"gap_ns"`
	// Outlasted: writes went on only after the fault had ended.
	Outlasted bool `json:"outlasted_the_fault,omitempty"`
}

// trial is one fault of a leader.
type trial struct {
	fault   fault
	site    site
	cluster cluster
}

// survivors are the replicas that the fault spares.
func (t trial) survivors() []int {
	var all []int
	for i := range t.site.replicas {
		if i != t.site.leader {
			all = append(all, i)
		}
	}
	return all
}

// run makes the fault and ends it again, with writers that write already, and stops them. The
// cluster is whole before it; it may not be so after.
func (t trial) run(ctx context.Context, w *writers) (outcome, error) {
	defer w.stop()
	if !sleepUntil(ctx, time.Now().Add(calm+rand.N(calm/2))) {
		return outcome{}, context.Cause(ctx)
	}
	if n := w.least(t.survivors()); n < calmWrites {
		return outcome{}, fmt.Errorf("a replica acknowledged only %d writes in the calm before", n)
	}
	if err := t.fault.begin(ctx, t.site); err != nil {
		return outcome{}, err
	}
	at := time.Now()
	ended, err := t.awaitResumed(ctx, w.faultTook(at), at)
	if err != nil {
		return outcome{}, err
	}
	if !sleepUntil(ctx, time.Now().Add(tail)) {
		return outcome{}, context.Cause(ctx)
	}
	w.stop()
	o := outcome{Outlasted: ended}
	var ok bool
	if o.Gap, ok = gap(w.acks, at); !ok {
		return outcome{}, errors.New("no write was acknowledged before the fault, or none after it")
	}
	if ended {
		return o, nil
	}
	if err := t.wasReplaced(ctx); err != nil {
		return outcome{}, err
	}
	if !sleepUntil(ctx, at.Add(t.fault.lasts)) {
		return outcome{}, context.Cause(ctx)
	}
	return o, t.fault.end(t.site)
}

// awaitResumed waits until writes go on, and ends the fault when its time is over before.
func (t trial) awaitResumed(ctx context.Context, resumed <-chan struct{}, at time.Time) (ended bool, err error) {
	var over <-chan time.Time
	if t.fault.lasts > 0 {
		over = time.After(time.Until(at.Add(t.fault.lasts)))
	}
	tooLong := time.After(time.Until(at.Add(recoveryPatience)))
	for {
		select {
		case <-resumed:
			return ended, nil
		case <-over:
			if err := t.fault.end(t.site); err != nil {
				return false, err
			}
			ended = true
		case <-tooLong:
			return false, fmt.Errorf("no write was acknowledged for %v after the fault", recoveryPatience)
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// wasReplaced returns an error if the leader is the one that it was: then the fault did not hold.
func (t trial) wasReplaced(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settlePatience, errors.New("writes go on without a leader"))
	defer cancel()
	leader, err := t.cluster.leader(ctx)
	if err != nil {
		return err
	}
	if leader == t.site.leader {
		return fmt.Errorf("%s leads in spite of the fault", t.site.replicas[leader].id)
	}
	return nil
}
