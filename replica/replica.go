package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/fsm"
	"github.com/conclave-rtc/conclave/grpcsvc"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Replica is one running Global Controller.
type Replica struct {
	log         hclog.Logger
	node        *raftnode.Node
	controllers *assign.Controllers
	server      *grpcsvc.Server
	http        *http.Server
	listeners   listeners
	served      chan error
}

// Start opens the data folder, joins the others and serves. It returns before there is a leader.
// The registry takes the replica's metrics. Settings that do not go together are a
// raftnode.ConfigError.
func Start(c Config, reg *prometheus.Registry) (*Replica, error) {
	if err := c.check(); err != nil {
		return nil, &raftnode.ConfigError{Err: err}
	}
	if c.DataDir == "" {
		c.DataDir = filepath.Join("data", c.NodeID)
	}
	log := c.Logger.With("gc", c.NodeID)
	token, err := assign.OpenTokenFile(c.MCTokenFile, log)
	if err != nil {
		return nil, err
	}
	l, err := c.listen()
	if err != nil {
		return nil, err
	}
	r := &Replica{log: log, listeners: l, served: make(chan error, 2)}
	if err := r.open(c, token, reg); err != nil {
		return nil, errors.Join(err, l.close())
	}
	go func() { r.served <- r.server.Serve(l.grpc) }()
	if l.http != nil {
		r.http = newHTTPServer(r.server, reg, c.Pprof)
		go func() { r.served <- r.http.Serve(l.http) }()
	}
	log.Info("serving", "version", c.Version, "grpc", addrOf(l.grpc), "raft", addrOf(l.raft), "http", addrOf(l.http),
		"region", c.Region, "zone", c.Zone, "data", c.DataDir, "log_store", c.LogStore)
	return r, nil
}

func (r *Replica) open(c Config, token *assign.TokenFile, reg *prometheus.Registry) error {
	metrics := assign.NewMetrics(reg)
	index := assign.NewIndex()
	r.controllers = assign.NewControllers(token, c.MCTimeout, metrics)
	assigner := assign.NewAssigner(assign.Config{
		StaleAfter:     c.StaleAfter,
		MaxAttempts:    c.MaxAssignAttempts,
		EndedRetention: c.EndedRetention,
	}, index, r.controllers, metrics, r.log.Named("assign"))
	var err error
	r.node, err = raftnode.Open(raftnode.Config{
		NodeID:         c.NodeID,
		DataDir:        c.DataDir,
		Listener:       r.listeners.raft,
		RaftAdvertise:  advertised(c.RaftAdvertise, c.RaftAddress, r.listeners.raft),
		GRPCAdvertise:  advertised(c.GRPCAdvertise, c.GRPCAddress, r.listeners.grpc),
		InitialCluster: c.InitialCluster,
		LogStore:       c.LogStore,
		Timing:         c.Timing,
		Retention:      c.Retention,
		Logger:         r.log,
		Metrics:        raftnode.NewMetrics(reg),
		Observer:       observers{index, r.controllers},
		OnLead:         func(n *raftnode.Node, lead raftnode.Leadership) { assigner.Lead(n, lead) },
		Fatal:          c.Fatal,
	})
	if err != nil {
		return err
	}
	r.server = grpcsvc.New(grpcsvc.Config{
		Region:             c.Region,
		LoadReportInterval: c.LoadReportInterval,
		ForwardTimeout:     c.ForwardTimeout,
		HeartbeatTimeout:   c.Timing.HeartbeatTimeout,
		Version:            c.Version,
	}, r.node, assigner, index, reg, r.log.Named("grpc"))
	return nil
}

// Served yields the error of a server that ended by itself.
func (r *Replica) Served() <-chan error { return r.served }

// Node is the replica's Raft node, for tests and status.
func (r *Replica) Node() *raftnode.Node { return r.node }

// GRPCAddr is where gRPC is served.
func (r *Replica) GRPCAddr() net.Addr { return r.listeners.grpc.Addr() }

const (
	handOverTime = 3 * time.Second
	drainTime    = 5 * time.Second
)

// Stop hands the leadership over while everything still answers, then lets what is under way
// end, and closes the disks.
func (r *Replica) Stop(ctx context.Context) error {
	handOver, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if err := r.node.HandOver(handOver); err != nil {
		r.log.Warn("stopping without handing over", "error", err)
	}
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	r.server.Stop(drain)
	var httpErr error
	if r.http != nil {
		httpErr = r.http.Close()
	}
	r.controllers.Close()
	err := errors.Join(httpErr, r.node.Shutdown())
	r.log.Info("stopped")
	return err
}

// observers are all who follow the state machine.
type observers []fsm.Observer

func (o observers) NodeChanged(n *fsm.Node) {
	for _, each := range o {
		each.NodeChanged(n)
	}
}

func (o observers) Reset(s *fsm.State) {
	for _, each := range o {
		each.Reset(s)
	}
}

type listeners struct{ grpc, raft, http net.Listener }

func (c *Config) listen() (l listeners, err error) {
	open := func(have net.Listener, flag, address string) net.Listener {
		if have != nil || address == "" || err != nil {
			return have
		}
		opened, openErr := net.Listen("tcp", address)
		if openErr != nil {
			err = fmt.Errorf("%s: %w", flag, openErr)
			return nil
		}
		return opened
	}
	l.raft = open(c.RaftListener, "raft-addr", c.RaftAddress)
	l.grpc = open(c.GRPCListener, "grpc-addr", c.GRPCAddress)
	l.http = open(c.HTTPListener, "http-addr", c.HTTPAddress)
	if err != nil {
		return l, errors.Join(err, l.close())
	}
	return l, nil
}

func (l listeners) close() error {
	var errs []error
	for _, each := range []net.Listener{l.grpc, l.raft, l.http} {
		if each != nil {
			errs = append(errs, ignoreClosed(each.Close()))
		}
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// advertised is the address that others are told: by default the one to listen at as it was given, or
// as the listener has it if that has another port.
func advertised(advertise, address string, l net.Listener) string {
	if advertise != "" {
		return advertise
	}
	actual := l.Addr().String()
	if port(address) == port(actual) {
		return address
	}
	return actual
}

// port of an address; empty if it has none.
func port(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}

func addrOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}
