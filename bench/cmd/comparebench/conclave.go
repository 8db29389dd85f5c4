package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	"github.com/conclave-rtc/conclave/bench/nodes"
	"github.com/conclave-rtc/conclave/localcluster"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// fillTimeout is how long a fleet may take to register.
const fillTimeout = 5 * time.Minute

// conclave is three replicas with the flags that they have by default, and a fleet around them.
type conclave struct {
	*bencher
	nodes.Size

	cluster  *localcluster.Cluster
	leader   *localcluster.Replica // when it started
	term     uint64                // likewise
	all      *grpcpool.Pool        // connections to all replicas
	atLeader *grpcpool.Pool        // as many to the leader
	fleet    *nodes.Fleet
	// background is nil when nobody reports for the media handlers.
	background *background
}

// runConclave starts the replicas, with further flags, and the fleet.
func (b *bencher) runConclave(ctx context.Context, dir string, flags ...string) (*conclave, error) {
	c := &conclave{bencher: b, Size: b.size()}
	if err := c.start(ctx, dir, flags); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c *conclave) start(ctx context.Context, dir string, flags []string) (err error) {
	config := localcluster.Config{Binary: c.binary, Replicas: c.replicas, Dir: dir, Args: flags}
	if c.cluster, err = localcluster.New(config); err != nil {
		return err
	}
	if err := c.cluster.Start(); err != nil {
		return err
	}
	if c.leader, c.term, err = c.leadership(ctx); err != nil {
		return err
	}
	var addrs []string
	for _, r := range c.cluster.Replicas() {
		addrs = append(addrs, r.GRPCAddr)
	}
	if c.all, err = grpcpool.Dial(addrs, c.conns); err != nil {
		return err
	}
	if c.atLeader, err = grpcpool.Dial([]string{c.leader.GRPCAddr}, c.conns*c.replicas); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fillTimeout, errors.New("the fleet did not register in time"))
	defer cancel()
	if c.fleet, err = nodes.Start(ctx, c.cluster.Targets(), c.Size); err != nil {
		return err
	}
	return c.createMeetings(ctx)
}

// leadership is the leader, and its term.
func (c *conclave) leadership(ctx context.Context) (*localcluster.Replica, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	leader, err := c.cluster.Leader(ctx)
	if err != nil {
		return nil, 0, err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("ask %s for its term: %w", leader.ID, err)
	}
	return leader, status.Term, nil
}

// existingMeetings is how many are live before anything is measured: enough that the leader has
// a connection to nearly every controller.
const existingMeetings = 3000

func existingMeetingID(i int) string { return fmt.Sprintf("existing-%04d", i) }

func (c *conclave) createMeetings(ctx context.Context) error {
	all := c.all.Conns()
	err := nodes.Each(ctx, existingMeetings, func(ctx context.Context, i int) error {
		return calls.Assign(ctx, all[i%len(all)], existingMeetingID(i), c.Region(i), true)
	})
	if err != nil {
		return err
	}
	// A linearizable read through a replica waits until that replica has applied what was
	// committed; one through each connection opens them all.
	last := existingMeetings - 1
	for _, conn := range append(all[:len(all):len(all)], c.atLeader.Conns()...) {
		if err := calls.Get(ctx, conn, existingMeetingID(last), c.Region(last), conclavev1.Consistency_LINEARIZABLE); err != nil {
			return err
		}
	}
	return nil
}

// notes are what happened so far and should not have.
func (c *conclave) notes(ctx context.Context) (notes []string, err error) {
	_, term, err := c.leadership(ctx)
	if err != nil {
		return nil, err
	}
	if term != c.term {
		notes = append(notes, fmt.Sprintf("%d elections", term-c.term))
	}
	if n := c.fleet.MissedHeartbeats(); n > 0 {
		notes = append(notes, fmt.Sprintf("%d heartbeats of meeting controllers failed", n))
	}
	return append(notes, c.background.notes()...), nil
}

// stop ends what start started, even if only in part.
func (c *conclave) stop() error {
	var errs []error
	c.background.stop()
	if c.fleet != nil {
		errs = append(errs, c.fleet.Close())
	}
	for _, to := range []*grpcpool.Pool{c.all, c.atLeader} {
		if to != nil {
			errs = append(errs, to.Close())
		}
	}
	if c.cluster != nil {
		c.cluster.Stop()
	}
	return errors.Join(errs...)
}
