package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/conclave-rtc/conclave/bench/fleet"
	"github.com/conclave-rtc/conclave/localcluster/netfault"
)

// row is all faults of one kind in one system, on one cluster.
type row struct {
	System       string         `json:"system"`
	Fault        string         `json:"fault"`
	Outcomes     []outcome      `json:"outcomes"`
	Acknowledged int            `json:"acknowledged_writes"`
	Failed       map[string]int `json:"failed_writes,omitempty"`
	// LookedForLost: every acknowledged write was read again at the end. Lost are those that the
	// cluster did not have.
	LookedForLost bool     `json:"looked_for_lost"`
	Lost          []string `json:"lost_writes,omitempty"`

	written []write
}

// measureRow makes n faults on a fresh cluster with its disks in dir, one after another, each once
// the cluster is whole again, and looks at the end for everything that was acknowledged. With an
// error, it returns what was measured before.
func measureRow(ctx context.Context, s system, f fault, n int, dir string, pace time.Duration) (r *row, err error) {
	r = &row{System: s.name, Fault: f.name, Failed: make(map[string]int)}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var network *netfault.Network
	if f.network {
		network = netfault.New()
		defer func() { err = errors.Join(err, network.Close()) }()
	}
	c, err := s.start(ctx, filepath.Join(dir, s.name), network)
	if c != nil {
		defer func() { err = errors.Join(err, c.close()) }()
	}
	if err != nil {
		return r, err
	}
	for i := range n {
		if err := r.next(ctx, c, f, network, i, pace); err != nil {
			return r, fmt.Errorf("%s number %d: %w", f.name, i+1, err)
		}
	}
	if err := r.settle(ctx, c, n); err != nil {
		return r, err
	}
	return r, r.lookForLost(ctx, c)
}

func (r *row) next(ctx context.Context, c cluster, f fault, n *netfault.Network, number int, pace time.Duration) error {
	if err := r.settle(ctx, c, number); err != nil {
		return err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	t := trial{fault: f, cluster: c, site: site{replicas: c.replicas(), leader: leader, network: n}}
	w := startWriters(ctx, c, fmt.Sprintf("w-%d", number), t.survivors(), pace)
	o, err := t.run(ctx, w)
	r.written = append(r.written, w.written...)
	r.Acknowledged = len(r.written)
	for reason, n := range w.failed {
		r.Failed[reason] += n
	}
	if err != nil {
		return err
	}
	r.Outcomes = append(r.Outcomes, o)
	return nil
}

// settle waits until the cluster is whole. The writes that it takes count as well.
func (r *row) settle(ctx context.Context, c cluster, number int) error {
	written, err := awaitWhole(ctx, c, fmt.Sprintf("settle-%d", number))
	r.written = append(r.written, written...)
	r.Acknowledged = len(r.written)
	return err
}

// lookForLost reads every acknowledged write again, from a cluster that is whole.
func (r *row) lookForLost(ctx context.Context, c cluster) error {
	missing := make([]atomic.Bool, len(r.written))
	err := fleet.Each(ctx, len(r.written), func(ctx context.Context, i int) error {
		there, err := c.holds(ctx, r.written[i])
		missing[i].Store(err == nil && !there)
		return err
	})
	if err != nil {
		return fmt.Errorf("look for lost writes: %w", err)
	}
	r.LookedForLost = true
	for i := range missing {
		if missing[i].Load() {
			r.Lost = append(r.Lost, r.written[i].key)
		}
	}
	return nil
}
