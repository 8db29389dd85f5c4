package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/conclave-rtc/conclave/bench/echo"
	"github.com/conclave-rtc/conclave/bench/fleet"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/localcluster"
)

// round measures every workload once, on a cluster of its own.
type round struct {
	*options
	*results
	echo   *echo.Server
	store  string
	number int
	dir    string
	binary string

	cluster *localcluster.Cluster
	to      *grpcpool.Pool // the replicas
	echoTo  *grpcpool.Pool // the echo server, with as many connections in all
}

func (r *round) run(ctx context.Context) (err error) {
	if err := r.start(ctx); err != nil {
		return errors.Join(err, r.stop())
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	around, err := startFleet(ctx, r.cluster.Targets(), r.to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, around.Close()) }()
	before, err := r.term(ctx)
	if err != nil {
		return err
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	after, err := r.term(ctx)
	if err != nil {
		return err
	}
	if after != before {
		r.elections = append(r.elections, fmt.Sprintf("%s, round %d: %d elections", r.store, r.number, after-before))
	}
	return nil
}

func (r *round) start(ctx context.Context) (err error) {
	config := localcluster.Config{
		Binary: r.binary, Dir: r.dir,
		Args: []string{"--region", fleet.Region, "--log-store", r.store, "--stale-after", staleAfter.String()},
	}
	if r.profiles != "" {
		config.Args = append(config.Args, "--pprof")
	}
	if r.cluster, err = localcluster.New(config); err != nil {
		return err
	}
	if err := r.cluster.Start(); err != nil {
		return err
	}
	leading, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if _, err := r.cluster.Leader(leading); err != nil {
		return err
	}
	var addrs []string
	for _, replica := range r.cluster.Replicas() {
		addrs = append(addrs, replica.GRPCAddr)
	}
	if r.to, err = grpcpool.Dial(addrs, r.conns); err != nil {
		return err
	}
	r.echoTo, err = grpcpool.Dial([]string{r.echo.Addr}, r.conns*len(addrs))
	return err
}

// stop ends what start started, even if only in part.
func (r *round) stop() error {
	var errs []error
	for _, t := range []*grpcpool.Pool{r.to, r.echoTo} {
		if t != nil {
			errs = append(errs, t.Close())
		}
	}
	if r.cluster != nil {
		r.cluster.Stop()
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}

// term is the term of the leader.
func (r *round) term(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	leader, err := r.cluster.Leader(ctx)
	if err != nil {
		return 0, err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask %s for its term: %w", leader.ID, err)
	}
	return status.Term, nil
}

func (r *round) measure(ctx context.Context) error {
	// The ceiling is measured beside the idle cluster, under the conditions of the rest.
	for _, callers := range r.callers {
		k := key{workload: echoWorkload, callers: callers}
		if err := r.one(ctx, k, func(i int) measure.Caller { return echoCaller(r.echoTo, callers, i) }); err != nil {
			return err
		}
	}
	for _, w := range workloads {
		if !r.wanted(w.name) {
			continue
		}
		for _, callers := range r.callers {
			k := key{r.store, w.name, callers}
			run := fmt.Sprintf("new-%d", callers)
			end := r.profile(ctx, k)
			err := r.one(ctx, k, func(i int) measure.Caller { return w.caller(r.to, run, callers, i) })
			if err := errors.Join(err, end()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *options) wanted(workload string) bool {
	for _, name := range o.workloads {
		if name == workload {
			return true
		}
	}
	return false
}

// one measures once and says so.
func (r *round) one(ctx context.Context, k key, newCaller func(int) measure.Caller) error {
	s, err := measure.Run(ctx, r.plan(k.callers), newCaller)
	if err != nil {
		return err
	}
	r.samples[k] = append(r.samples[k], s)
	fmt.Printf("round %d  %-4s  %-16s  %3d callers  %8.0f/s  p50 %-9v p99 %-9v failed %d\n", r.number, r.store,
		k.workload, k.callers, s.PerSecond, s.Latency.P50.Round(time.Microsecond), s.Latency.P99.Round(time.Microsecond), s.Failed()+s.Unsent)
	return nil
}
