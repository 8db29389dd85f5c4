package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-metrics"
	metricsprom "github.com/hashicorp/go-metrics/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/replica"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	replica.Config
	cluster   clusterFlag
	logStore  logStoreFlag
	logLevel  logLevelFlag
	logFormat logFormatFlag
}

func newServeCommand() *cobra.Command {
	o := &serveOptions{Config: replica.Default(), logLevel: logLevelFlag(hclog.Info), logFormat: "text"}
	o.logStore = logStoreFlag(o.LogStore)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one Global Controller replica",
		Long: `Serve runs one replica until it is interrupted. On SIGTERM it hands the leadership over
before it stops to answer.

A replica that is restarted with the same data folder comes back with everything that it
acknowledged. The initial cluster is read only while the data folder is empty: the first start
waits until all of its replicas have answered, and a replica whose data folder was lost is
started anew with the same flags, gets everything from the others, and then votes again.`,
		Example: `  # one replica alone
  conclave serve --node-id gc-1

  # the first of three
  conclave serve --node-id gc-1 --raft-addr 127.0.0.1:7951 --grpc-addr 127.0.0.1:50051 --http-addr 127.0.0.1:8081 --initial-cluster gc-1=127.0.0.1:7951,gc-2=127.0.0.1:7952,gc-3=127.0.0.1:7953`,
		Args: wantArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.followHeartbeatTimeout(cmd.Flags())
			return o.serve(cmd.Context())
		},
	}
	o.addFlags(cmd.Flags())
	if err := cmd.MarkFlagRequired("node-id"); err != nil {
		panic(err) // a flag that was just added
	}
	return cmd
}

// The flags of Raft's timing.
const (
	flagElectionTimeout = "raft-election-timeout"
	flagLeaderLease     = "raft-leader-lease"
)

// followHeartbeatTimeout sets the timing that is not given to what the heartbeat timeout is: neither may be
// on its other side.
func (o *serveOptions) followHeartbeatTimeout(f *pflag.FlagSet) {
	if !f.Changed(flagElectionTimeout) {
		o.Timing.ElectionTimeout = o.Timing.HeartbeatTimeout
	}
	if !f.Changed(flagLeaderLease) {
		o.Timing.LeaderLease = o.Timing.HeartbeatTimeout
	}
}

func (o *serveOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.NodeID, "node-id", "", "name of this replica, unique in the cluster")
	f.StringVar(&o.Region, "region", o.Region, "region of meetings whose request names none")
	f.StringVar(&o.Zone, "zone", "", "zone of this replica")
	f.StringVar(&o.DataDir, "data-dir", "", "folder of the log and the snapshots (default ./data/NODE-ID)")
	f.StringVar(&o.GRPCAddress, "grpc-addr", o.GRPCAddress, "address of the gRPC services")
	f.StringVar(&o.GRPCAdvertise, "grpc-advertise", "", "address at which others reach the gRPC services (default: grpc-addr)")
	f.StringVar(&o.RaftAddress, "raft-addr", o.RaftAddress, "address for the other replicas")
	f.StringVar(&o.RaftAdvertise, "raft-advertise", "", "address at which other replicas reach this one (default: raft-addr)")
	f.StringVar(&o.HTTPAddress, "http-addr", o.HTTPAddress, "address of /health/live, /health/ready and /metrics")
	f.BoolVar(&o.Pprof, "pprof", false, "also serve /debug/pprof on http-addr")
	f.Var(&o.cluster, "initial-cluster", "all replicas, for an empty data folder (default: this one alone)")
	f.Var(&o.logLevel, "log-level", "what to log")
	f.Var(&o.logFormat, "log-format", "how to log")
	f.DurationVar(&o.LoadReportInterval, "load-report-interval", o.LoadReportInterval, "how often media handlers and meeting controllers are asked to report")
	f.DurationVar(&o.StaleAfter, "stale-after", o.StaleAfter, "silence after which a node is unhealthy")
	f.DurationVar(&o.MCTimeout, "mc-timeout", o.MCTimeout, "how long a meeting controller has to answer")
	f.IntVar(&o.MaxAssignAttempts, "max-assign-attempts", o.MaxAssignAttempts, "how many meeting controllers a join tries")
	f.StringVar(&o.MCTokenFile, "mc-token-file", "", "file with the bearer token for meeting controllers; read again when it changes")
	f.DurationVar(&o.ForwardTimeout, "forward-timeout", o.ForwardTimeout, "how long a call looks for a leader")
	f.Var(&o.logStore, "log-store", "how the Raft log is stored")
	f.DurationVar(&o.EndedRetention, "ended-retention", o.EndedRetention, "how long ended assignments are kept for audit")
	f.DurationVar(&o.Timing.HeartbeatTimeout, "raft-heartbeat-timeout", o.Timing.HeartbeatTimeout, "silence of the leader before a follower looks for another; longer for slow or busy machines")
	f.DurationVar(&o.Timing.ElectionTimeout, flagElectionTimeout, o.Timing.ElectionTimeout, "time (1 to 2 times this) that one election may take; at least, and if not given equal to, the heartbeat timeout")
	f.DurationVar(&o.Timing.LeaderLease, flagLeaderLease, o.Timing.LeaderLease, "time that a leader goes on without a quorum; at most, and if not given equal to, the heartbeat timeout")
	f.Uint64Var(&o.Retention.SnapshotThreshold, "raft-snapshot-threshold", o.Retention.SnapshotThreshold, "log entries that make a new snapshot")
	f.Uint64Var(&o.Retention.SnapshotLogBytes, "raft-snapshot-log-bytes", o.Retention.SnapshotLogBytes, "bytes of the log that make a new snapshot, if they are a quarter of what the last one has (0: never)")
	f.DurationVar(&o.Retention.SnapshotInterval, "raft-snapshot-interval", o.Retention.SnapshotInterval, "how often the snapshot thresholds are looked at")
	f.Uint64Var(&o.Retention.TrailingLogs, "raft-trailing-logs", o.Retention.TrailingLogs, "log entries kept behind a snapshot for followers that lag")
}

// serve runs the replica until the context ends or a server fails.
func (o *serveOptions) serve(ctx context.Context) error {
	c := o.Config
	c.InitialCluster, c.LogStore = o.cluster, raftnode.LogStoreKind(o.logStore)
	c.Version = buildVersion()
	c.Logger = o.logger()
	c.Fatal = func(err error) {
		c.Logger.Error("this replica cannot go on", "error", err)
		os.Exit(exitFailed)
	}
	reg, err := newRegistry()
	if err != nil {
		return err
	}
	go paceCollector(ctx)
	r, err := replica.Start(c, reg)
	if bad := new(raftnode.ConfigError); errors.As(err, &bad) {
		return usageErrorf("%v", err)
	}
	if err != nil {
		return fmt.Errorf("start replica %s: %w", c.NodeID, err)
	}
	select {
	case <-ctx.Done():
	case err = <-r.Served():
		err = fmt.Errorf("serve: %w", err)
	}
	// The end of ctx asked for this; it must not cut it short.
	stopErr := r.Stop(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	return stopErr
}

func (o *serveOptions) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{
		Name:       "conclave",
		Level:      hclog.Level(o.logLevel),
		JSONFormat: o.logFormat == "json",
		Output:     os.Stderr,
		Exclude:    raftnode.Noise,
		TimeFormat: "2006-01-02T15:04:05.000Z07:00",
	})
}

// newRegistry makes the registry of the process, into which raft's own metrics go too.
func newRegistry() (*prometheus.Registry, error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sink, err := metricsprom.NewPrometheusSinkFrom(metricsprom.PrometheusOpts{
		Registerer: reg, Expiration: 10 * time.Minute,
	})
	if err != nil {
		return nil, fmt.Errorf("collect raft's metrics: %w", err)
	}
	conf := metrics.DefaultConfig("")
	conf.EnableHostname, conf.EnableServiceLabel, conf.EnableRuntimeMetrics = false, false, false
	if _, err := metrics.NewGlobal(conf, sink); err != nil {
		return nil, fmt.Errorf("collect raft's metrics: %w", err)
	}
	return reg, nil
}

// clusterFlag is id=raft-addr,id=raft-addr,...
type clusterFlag []raftnode.Server

func (c *clusterFlag) String() string {
	var parts []string
	for _, s := range *c {
		parts = append(parts, s.ID+"="+s.RaftAddress)
	}
	return strings.Join(parts, ",")
}

// Type is how help names the value.
func (c *clusterFlag) Type() string { return "id=raft-addr,..." }

// Set reads the whole cluster.
func (c *clusterFlag) Set(text string) error {
	var servers []raftnode.Server
	seen := make(map[string]bool)
	for part := range strings.SplitSeq(text, ",") {
		id, addr, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || id == "" || addr == "" || seen[id] || seen["="+addr] {
			return &valueError{want: "id=raft-addr,id=raft-addr,… with no id and no address twice"}
		}
		seen[id], seen["="+addr] = true, true
		servers = append(servers, raftnode.Server{ID: id, RaftAddress: addr})
	}
	*c = servers
	return nil
}

type logStoreFlag raftnode.LogStoreKind

func (l *logStoreFlag) String() string { return string(*l) }

// Type is how help names the value.
func (l *logStoreFlag) Type() string { return "bolt|wal" }

// Set reads the name of a log store.
func (l *logStoreFlag) Set(name string) error {
	kind, err := raftnode.ParseLogStore(name)
	if err != nil {
		return &valueError{want: "bolt or wal"}
	}
	*l = logStoreFlag(kind)
	return nil
}

type logLevelFlag hclog.Level

func (l *logLevelFlag) String() string { return hclog.Level(*l).String() }

// Type is how help names the value.
func (l *logLevelFlag) Type() string { return "trace|debug|info|warn|error" }

// Set reads the name of a level.
func (l *logLevelFlag) Set(name string) error {
	level := hclog.LevelFromString(name)
	if level == hclog.NoLevel {
		return &valueError{want: "trace, debug, info, warn or error"}
	}
	*l = logLevelFlag(level)
	return nil
}

type logFormatFlag string

func (l *logFormatFlag) String() string { return string(*l) }

// Type is how help names the value.
func (l *logFormatFlag) Type() string { return "text|json" }

// Set reads the name of a format.
func (l *logFormatFlag) Set(name string) error {
	if name != "text" && name != "json" {
		return &valueError{want: "text or json"}
	}
	*l = logFormatFlag(name)
	return nil
}
