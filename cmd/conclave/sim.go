package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclave-rtc/conclave/sim"
)

// simOptions are the flags that the simulated fleets share.
type simOptions struct {
	targets   addressList
	regions   []string
	zones     []string
	instance  string
	seed      uint64
	interval  time.Duration
	staleness time.Duration
	legacy    bool
	runFor    time.Duration
	logLevel  logLevelFlag
}

func newSimCommand() *cobra.Command {
	return newGroup(&cobra.Command{
		Use:   "sim",
		Short: "Run simulated media handlers, meeting controllers or joining clients",
		Long: `The simulated fleets speak the real gRPC contract to any cluster: media handlers and meeting
controllers register and report as real ones do, and joining clients join and end meetings.`,
		Example: `  conclave sim mh --count 100 --region eu
  conclave sim mc --count 10 --region eu
  conclave sim join --rate 50 --region eu`,
	}, newSimHandlersCommand(), newSimControllersCommand(), newSimJoinCommand())
}

func addSimFlags(f *pflag.FlagSet) *simOptions {
	o := &simOptions{targets: addressList{"127.0.0.1:50051"}, regions: []string{"local"}, zones: []string{"a", "b"}, logLevel: logLevelFlag(hclog.Warn)}
	f.Var(&o.targets, "target", "gRPC addresses of replicas; all are used in turn")
	f.StringSliceVar(&o.regions, "region", o.regions, "regions to spread over")
	f.StringSliceVar(&o.zones, "zone", o.zones, "zones of each region to spread over")
	f.Uint64Var(&o.seed, "seed", 1, "makes sizes and choices repeatable")
	f.DurationVar(&o.runFor, "for", 0, "stop after this time (default: run until interrupted)")
	return o
}

func addSimNodeFlags(f *pflag.FlagSet) *simOptions {
	o := addSimFlags(f)
	f.Var(&o.logLevel, "log-level", "what to log")
	f.StringVar(&o.instance, "instance", "", "goes into the ids, to tell the fleets of several processes apart")
	f.DurationVar(&o.interval, "report-interval", 0, "how often to report (default: what the cluster asks for)")
	f.DurationVar(&o.staleness, "stale-after", sim.DefaultStaleAfter, "the cluster's staleness period")
	f.BoolVar(&o.legacy, "legacy", false, "speak under the older package name dark_tower.internal")
	return o
}

func newSimHandlersCommand() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "mh",
		Short: "Run simulated media handlers",
		Example: `  conclave sim mh --count 100 --region eu,us --zone a,b,c
  conclave sim mh --count 10 --legacy --for 1m`,
		Args: wantArgs(),
	}
	o := addSimNodeFlags(cmd.Flags())
	cmd.Flags().IntVar(&count, "count", 10, "how many")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.runFleet(cmd, sim.FleetConfig{MediaHandlers: count}, "media handlers")
	}
	return cmd
}

func newSimControllersCommand() *cobra.Command {
	var count int
	var host, token string
	cmd := &cobra.Command{
		Use:   "mc",
		Short: "Run simulated meeting controllers",
		Long: `Each meeting controller serves gRPC on a port of its own, at --host: an address of this machine at
which the cluster reaches it.`,
		Example: `  conclave sim mc --count 10 --region eu
  conclave sim mc --count 3 --report-interval 1s
  conclave sim mc --target 10.0.0.1:50051,10.0.0.2:50051 --host 10.0.0.9`,
		Args: wantArgs(),
	}
	o := addSimNodeFlags(cmd.Flags())
	cmd.Flags().IntVar(&count, "count", 5, "how many")
	cmd.Flags().StringVar(&host, "host", "127.0.0.1", "where they serve, and where the cluster calls them")
	cmd.Flags().StringVar(&token, "require-token", "", "bearer token that callers must show")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if host == "" || net.ParseIP(host).IsUnspecified() {
			return usageErrorf("--host must be an address of this machine at which the cluster reaches it")
		}
		return o.runFleet(cmd, sim.FleetConfig{MeetingControllers: count, Host: host, BearerToken: token}, "meeting controllers")
	}
	return cmd
}

// runFleet runs nodes until the context or the time ends.
func (o *simOptions) runFleet(cmd *cobra.Command, c sim.FleetConfig, what string) error {
	if err := checkPlaces(o.regions, o.zones); err != nil {
		return err
	}
	if c.MediaHandlers+c.MeetingControllers < 1 {
		return usageErrorf("--count must be at least 1")
	}
	cluster, err := sim.Dial(o.targets.String(), 0)
	if err != nil {
		return err
	}
	defer cluster.Close()
	c.Regions, c.Zones, c.Instance, c.Seed = o.regions, o.zones, o.instance, o.seed
	c.ReportInterval, c.StaleAfter, c.Legacy = o.interval, o.staleness, o.legacy
	c.Logger = o.logger(cmd.ErrOrStderr())
	fleet, err := sim.NewFleet(cluster, c)
	if err != nil {
		return err
	}
	ctx, cancel := o.limit(cmd.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fleet.Run(ctx)
	}()
	if err := fleet.Ready(ctx); err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "%d %s report to %s\n", len(fleet.MediaHandlers())+len(fleet.MeetingControllers()), what, o.targets.String())
	} else if cmd.Context().Err() == nil {
		return fmt.Errorf("no report got through to %s: %w", o.targets.String(), err)
	}
	<-done
	return nil
}

// checkPlaces refuses what no node could register with.
func checkPlaces(regions, zones []string) error {
	if len(regions) == 0 || slices.Contains(regions, "") {
		return usageErrorf("--region must name at least one region, and no empty one")
	}
	if len(zones) == 0 {
		return usageErrorf("--zone must name at least one zone")
	}
	return nil
}

func newSimJoinCommand() *cobra.Command {
	var workers, live int
	var rate float64
	cmd := &cobra.Command{
		Use:   "join",
		Short: "Run clients that join and end meetings",
		Long: `The clients join and end meetings through all replicas and print once a second how that goes.
Joins of meetings that are live must find the assignment that is there.`,
		Example: `  conclave sim join --rate 100 --region eu
  conclave sim join --count 64 --for 30s`,
		Args: wantArgs(),
	}
	o := addSimFlags(cmd.Flags())
	cmd.Flags().IntVar(&workers, "count", 8, "how many clients")
	cmd.Flags().Float64Var(&rate, "rate", 0, "joins per second of all together (default: as fast as they can)")
	cmd.Flags().IntVar(&live, "max-live", 1000, "live meetings in each region")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkPlaces(o.regions, o.zones); err != nil {
			return err
		}
		if workers < 1 || rate < 0 || live < 1 {
			return usageErrorf("--count and --max-live must be at least 1, --rate not negative")
		}
		cluster, err := sim.Dial(o.targets.String(), 0)
		if err != nil {
			return err
		}
		defer cluster.Close()
		ctx, cancel := o.limit(cmd.Context())
		defer cancel()
		joiners := sim.NewJoiners(cluster, sim.NewLedger(), sim.JoinersConfig{
			Workers: workers, Regions: o.regions, Zones: o.zones, Rate: rate, MaxLive: live, Seed: o.seed,
			Prefix: fmt.Sprintf("sim-%d", time.Now().Unix()),
		})
		return reportJoins(ctx, cmd.OutOrStdout(), joiners)
	}
	return cmd
}

// reportJoins runs joiners and prints a line a second.
func reportJoins(ctx context.Context, w io.Writer, joiners *sim.Joiners) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		joiners.Run(ctx)
	}()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			fmt.Fprintln(w, "joins "+joinLine(joiners.Stats()))
		case <-done:
			stats := joiners.Stats()
			fmt.Fprintln(w, "joins "+joinLine(stats))
			if stats.Joins == 0 {
				return errors.New("no join succeeded; see 'conclave mh list' and 'conclave mc list'")
			}
			return nil
		}
	}
}

func (o *simOptions) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.runFor == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, o.runFor)
}

func (o *simOptions) logger(w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: "sim", Level: hclog.Level(o.logLevel), Output: w})
}
