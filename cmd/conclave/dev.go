package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// devOptions are the flags of dev.
type devOptions struct {
	runFor     time.Duration
	killEvery  time.Duration
	replicas   int
	handlers   int
	controls   int
	joiners    int
	rate       float64
	maxLive    int
	regions    []string
	zones      []string
	interval   time.Duration
	staleAfter time.Duration
	dataDir    string
	logStore   logStoreFlag
	seed       uint64
}

func newDevCommand() *cobra.Command {
	o := &devOptions{
		replicas: 3, handlers: 60, controls: 12, joiners: 16, rate: 200, maxLive: 400,
		regions: []string{"eu", "us", "ap"}, zones: []string{"a", "b", "c"},
		interval: 2 * time.Second, staleAfter: 6 * time.Second, logStore: logStoreFlag(raftnode.LogStoreWAL), seed: 1,
	}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole system on this machine and judge it",
		Long: `Dev starts replicas as processes of their own, a fleet of simulated media handlers and meeting
controllers that speak the real gRPC contract, and clients that join and end meetings through all
replicas. It kills leaders when asked to.

At the end it holds the cluster to every answer that it gave: nothing acknowledged may be missing,
no meeting may be hosted twice, no node may have been called dead while it reported. It exits
with 0 only if that holds.`,
		Example: `  conclave dev
  conclave dev --for 30s --kill-leader-every 8s`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func (o *devOptions) addFlags(f *pflag.FlagSet) {
	f.DurationVar(&o.runFor, "for", 0, "stop after this time (default: run until interrupted)")
	f.DurationVar(&o.killEvery, "kill-leader-every", 0, "kill the leader with SIGKILL this often, and restart it (default: never)")
	f.IntVar(&o.replicas, "replicas", o.replicas, "Global Controller replicas")
	f.IntVar(&o.handlers, "mhs", o.handlers, "simulated media handlers")
	f.IntVar(&o.controls, "mcs", o.controls, "simulated meeting controllers")
	f.IntVar(&o.joiners, "joiners", o.joiners, "clients that join and end meetings")
	f.Float64Var(&o.rate, "rate", o.rate, "joins per second of all clients together; 0 is as fast as they can")
	f.IntVar(&o.maxLive, "max-live", o.maxLive, "live meetings in each region")
	f.StringSliceVar(&o.regions, "region", o.regions, "regions to spread over")
	f.StringSliceVar(&o.zones, "zone", o.zones, "zones of each region to spread over")
	f.DurationVar(&o.interval, "load-report-interval", o.interval, "how often nodes report")
	f.DurationVar(&o.staleAfter, "stale-after", o.staleAfter, "silence after which a node is unhealthy")
	f.StringVar(&o.dataDir, "data-dir", "", "keep data and logs here (default: a temporary folder, removed at the end)")
	f.Var(&o.logStore, "log-store", "how the Raft log is stored")
	f.Uint64Var(&o.seed, "seed", o.seed, "makes sizes and choices repeatable")
}

// run runs the system and judges it.
func (o *devOptions) run(ctx context.Context, w io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	dir, keep, err := o.folder()
	if err != nil {
		return err
	}
	system, err := o.start(ctx, w, dir)
	if err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, dir)
	}
	defer system.close()
	if err := system.live(ctx); err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, dir)
	}
	// Ctrl-C ends the joining; the judgement is still owed.
	verdict, err := system.judge(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, dir)
	}
	if !verdict.OK() {
		return fmt.Errorf("the cluster broke its word; logs are in %s", dir)
	}
	if !keep {
		system.close()
		return os.RemoveAll(dir)
	}
	return nil
}

// check names the flag and the rule that it breaks.
func (o *devOptions) check() error {
	if err := checkPlaces(o.regions, o.zones); err != nil {
		return err
	}
	for name, value := range map[string]int{
		"replicas": o.replicas, "mhs": o.handlers, "mcs": o.controls, "joiners": o.joiners, "max-live": o.maxLive,
	} {
		if value < 1 {
			return usageErrorf("--%s must be at least 1", name)
		}
	}
	switch {
	case o.rate < 0 || o.runFor < 0 || o.killEvery < 0:
		return usageErrorf("--rate, --for and --kill-leader-every must not be negative")
	case o.interval <= 0 || o.staleAfter <= o.interval:
		return usageErrorf("--stale-after must be longer than --load-report-interval, and that above zero")
	}
	return nil
}

// folder is where data and logs go.
func (o *devOptions) folder() (dir string, keep bool, err error) {
	if o.dataDir != "" {
		if left, err := filepath.Glob(filepath.Join(o.dataDir, "gc-*")); err == nil && len(left) > 0 {
			return "", false, usageErrorf("--data-dir %s holds replicas of another run, whose ports are gone: name a new folder", o.dataDir)
		}
		return o.dataDir, true, nil
	}
	dir, err = os.MkdirTemp("", "conclave-dev-")
	if err != nil {
		return "", false, fmt.Errorf("make a temporary folder: %w", err)
	}
	return dir, false, nil
}

// devSystem is everything that runs.
type devSystem struct {
	*devOptions
	view     *devView
	replicas *localcluster.Cluster
	cluster  *sim.Cluster
	fleet    *sim.Fleet
	joiners  *sim.Joiners
	ledger   *sim.Ledger
	fleetEnd context.CancelFunc
	fleetRun chan struct{}
}

func (o *devOptions) start(ctx context.Context, w io.Writer, dir string) (*devSystem, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the conclave binary: %w", err)
	}
	s := &devSystem{devOptions: o, ledger: sim.NewLedger(), fleetRun: make(chan struct{})}
	s.replicas, err = localcluster.New(localcluster.Config{
		Binary: binary, Replicas: o.replicas, Dir: filepath.Clean(dir),
		Args: []string{
			"--region", o.regions[0], "--log-store", string(o.logStore),
			"--load-report-interval", o.interval.String(), "--stale-after", o.staleAfter.String(),
		},
	})
	if err != nil {
		return nil, err
	}
	if err := s.replicas.Start(); err != nil {
		s.replicas.Stop()
		return nil, err
	}
	if err := s.populate(ctx); err != nil {
		s.replicas.Stop()
		return nil, err
	}
	s.view = newDevView(w, s)
	s.view.welcome(dir)
	return s, nil
}

// populate starts the fleet and makes the joiners.
func (s *devSystem) populate(ctx context.Context) error {
	if err := s.firstLeader(ctx); err != nil {
		return err
	}
	var err error
	if s.cluster, err = sim.Dial(s.replicas.Targets(), 0); err != nil {
		return err
	}
	s.fleet, err = sim.NewFleet(s.cluster, sim.FleetConfig{
		MediaHandlers: s.handlers, MeetingControllers: s.controls,
		Regions: s.regions, Zones: s.zones, Seed: s.seed, StaleAfter: s.staleAfter,
	})
	if err != nil {
		return err
	}
	s.joiners = sim.NewJoiners(s.cluster, s.ledger, sim.JoinersConfig{
		Workers: s.devOptions.joiners, Regions: s.regions, Zones: s.zones,
		Rate: s.rate, MaxLive: s.maxLive, Seed: s.seed,
	})
	// The fleet outlives the joining: it is judged by what it hosts then.
	fleetCtx, end := context.WithCancel(context.WithoutCancel(ctx))
	s.fleetEnd = end
	go func() {
		defer close(s.fleetRun)
		s.fleet.Run(fleetCtx)
	}()
	ready, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := s.fleet.Ready(ready); err != nil {
		s.endFleet()
		return fmt.Errorf("the simulated fleet did not get through to the cluster: %w", err)
	}
	return nil
}

// startTimeout is how long the cluster, and then the fleet, has to come up.
const startTimeout = 30 * time.Second

func (s *devSystem) firstLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	_, err := s.replicas.Leader(ctx)
	return err
}

// live lets the system run until its time is over, and kills leaders meanwhile.
func (s *devSystem) live(ctx context.Context) error {
	if s.runFor > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.runFor)
		defer cancel()
	}
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		s.joiners.Run(ctx)
	}()
	go s.ledger.Watch(ctx, s.cluster, s.fleet, time.Second)
	killed := make(chan error, 1)
	go func() { killed <- s.killLeaders(ctx) }()
	s.view.follow(ctx)
	<-joined
	return <-killed
}

// quietEnd is how long before the end no leader is killed any more, so that every failover is
// seen to its end.
const quietEnd = 3 * time.Second

// killLeaders kills the leader every so often and brings it back half a period later.
func (s *devSystem) killLeaders(ctx context.Context) error {
	if s.killEvery <= 0 {
		return nil
	}
	ticker := time.NewTicker(s.killEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if end, ok := ctx.Deadline(); ok && time.Until(end) < quietEnd {
			continue
		}
		leader, err := s.replicas.Leader(ctx)
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		s.joiners.MarkKill(time.Now())
		s.view.killed(leader.ID)
		if err := leader.Kill(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(s.killEvery / 2):
		}
		if err := leader.Start(); err != nil {
			return err
		}
		s.view.restarted(leader.ID)
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// judge holds the cluster to what it acknowledged.
func (s *devSystem) judge(ctx context.Context) (*sim.Verdict, error) {
	// Orphans go with the comprehensive heartbeats, which come every third interval.
	settle := 2*3*s.interval + s.staleAfter
	s.view.judging()
	ctx, cancel := context.WithTimeout(ctx, settle+startTimeout)
	defer cancel()
	if err := s.ledger.Look(ctx, s.cluster, s.fleet); err != nil {
		return nil, err
	}
	verdict, err := s.ledger.Verdict(ctx, s.cluster, s.fleet, settle)
	if err != nil {
		return nil, err
	}
	stats := s.joiners.Stats()
	s.view.verdict(verdict, stats)
	if stats.Joins == 0 {
		return nil, errors.New("no join succeeded: there is nothing to judge")
	}
	return verdict, nil
}

func (s *devSystem) endFleet() {
	s.fleetEnd()
	<-s.fleetRun
	s.cluster.Close()
}

// close ends everything. It may be called twice.
func (s *devSystem) close() {
	s.endFleet()
	s.replicas.Stop()
}
