package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/localcluster/netfault"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// What the replicas and the fleet of a run are.
var (
	regions = []string{"eu", "us"}
	zones   = []string{"a", "b", "c"}
	// lease is the replicas' leader lease.
	lease = raftnode.DefaultTiming.LeaderLease
)

const (
	handlersPerRegion    = 5
	controllersPerRegion = 4
	// staleAfter is short, so that a round sees nodes fall silent and be marked.
	staleAfter = 5 * time.Second
	// fastHeartbeat and fullHeartbeat are how often MCs report; with the second they list what
	// they host.
	fastHeartbeat = 700 * time.Millisecond
	fullHeartbeat = 1500 * time.Millisecond

	// The names of those who are no replica, as the network knows them.
	clientSide = "clients"
	fleetSide  = "fleet"
)

// System is the cluster under test with everything around it.
type System struct {
	cluster     *localcluster.Cluster
	network     *netfault.Network
	clientConns []*grpc.ClientConn // one a replica, as clients reach it
	fleetConns  []*grpc.ClientConn // one a replica, as the fleet reaches it
	fleet       *sim.Cluster
	handlers    []*handler
	controllers []*sim.MeetingController
	clocks      string // the folder that says by how much each replica's clock is wrong

	mu    sync.Mutex
	lives map[string]int
}

// newSystem makes everything; replicas are not started yet.
func newSystem(c Config) (_ *System, err error) {
	s := &System{network: netfault.New(), lives: make(map[string]int), clocks: filepath.Join(c.Dir, "clocks")}
	if err := os.MkdirAll(s.clocks, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of clocks: %w", err)
	}
	if err := os.Setenv(clockFolder, s.clocks); err != nil { // the replicas inherit it
		return nil, fmt.Errorf("tell replicas of their clocks: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.cluster, err = localcluster.New(localcluster.Config{
		Binary: c.Binary, Replicas: c.Replicas, Dir: filepath.Join(c.Dir, "replicas"), Network: s.network,
		Args: append([]string{
			"--region", regions[0], "--load-report-interval", "1s", "--stale-after", staleAfter.String(), "--mc-timeout", "500ms",
			"--log-store", c.LogStore, "--log-format", "json",
			// Many snapshots, so that restarts begin with one; the whole log, so that it can be replayed.
			"--raft-snapshot-threshold", "1000", "--raft-snapshot-interval", "3s", "--raft-trailing-logs", "1000000000",
		}, c.ServeArgs...),
	})
	if err != nil {
		return s, err
	}
	var fleetAddrs []string
	for _, r := range s.cluster.Replicas() {
		conn, _, err := s.dial(clientSide, r)
		if err != nil {
			return s, err
		}
		s.clientConns = append(s.clientConns, conn)
		conn, addr, err := s.dial(fleetSide, r)
		if err != nil {
			return s, err
		}
		s.fleetConns = append(s.fleetConns, conn)
		fleetAddrs = append(fleetAddrs, addr)
	}
	if s.fleet, err = sim.Dial(strings.Join(fleetAddrs, ","), time.Second); err != nil {
		return s, err
	}
	return s, s.makeFleet()
}

// dial connects to a replica through the network, as one of those who are no replica.
func (s *System) dial(side string, r *localcluster.Replica) (*grpc.ClientConn, string, error) {
	addr, err := s.network.ExposeTo(side, r.ID, r.GRPCAddr)
	if err != nil {
		return nil, "", err
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, "", fmt.Errorf("connect to %s: %w", r.ID, err)
	}
	return conn, addr, nil
}

func (s *System) makeFleet() error {
	addrs, err := localcluster.FreePorts(len(regions) * controllersPerRegion)
	if err != nil {
		return err
	}
	for _, region := range regions {
		for i := range handlersPerRegion {
			s.handlers = append(s.handlers, &handler{
				system: s, id: fmt.Sprintf("mh-%s-%d", region, i+1), region: region, zone: zones[i%len(zones)],
			})
		}
		for i := range controllersPerRegion {
			id := fmt.Sprintf("mc-%s-%d", region, i+1)
			m, err := sim.NewMeetingController(s.fleet, sim.MeetingControllerConfig{
				ID: id, Region: region, Zone: zones[i%len(zones)], Listen: addrs[len(s.controllers)], MaxMeetings: 10_000, JournalLimit: 1 << 20,
				FastInterval: fastHeartbeat, ComprehensiveInterval: fullHeartbeat, StaleAfter: staleAfter,
				Legacy: i == 0, Advertise: s.advertise(id),
			})
			if err != nil {
				return err
			}
			s.controllers = append(s.controllers, m)
		}
	}
	return nil
}

// advertise puts the network in front of an MC, once.
func (s *System) advertise(id string) func(string) string {
	var once sync.Once
	var endpoint string
	return func(address string) string {
		once.Do(func() {
			proxy, err := s.network.Expose(id, address)
			if err != nil {
				proxy = address // no port is left: the MC cannot be cut off, all else is tested
			}
			endpoint = "http://" + proxy
		})
		return endpoint
	}
}

func (s *System) close() error {
	var errs []error
	if s.cluster != nil {
		for _, r := range s.cluster.Replicas() {
			if r.Running() {
				errs = append(errs, r.Kill())
			}
		}
	}
	for _, conn := range append(s.clientConns, s.fleetConns...) {
		errs = append(errs, conn.Close())
	}
	if s.fleet != nil {
		errs = append(errs, s.fleet.Close())
	}
	for _, m := range s.controllers {
		m.Stop()
	}
	return errors.Join(append(errs, s.network.Close())...)
}

// start starts a replica that does not run.
func (s *System) start(r *localcluster.Replica, extra ...string) error {
	if r.Running() {
		return nil
	}
	s.mu.Lock()
	s.lives[r.ID]++
	s.mu.Unlock()
	return r.Start(extra...)
}

// startAll starts every replica that does not run.
func (s *System) startAll() error {
	var errs []error
	for _, r := range s.cluster.Replicas() {
		errs = append(errs, s.start(r))
	}
	return errors.Join(errs...)
}

// life is how often a replica has been started.
func (s *System) life(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lives[id]
}

// leader waits for the leader.
func (s *System) leader(ctx context.Context) (*localcluster.Replica, error) {
	ctx, cancel := context.WithTimeout(ctx, resumeBound)
	defer cancel()
	return s.cluster.Leader(ctx)
}

// others are the replicas beside one, in a random order.
func (s *System) others(of *localcluster.Replica, n *nemesis) []*localcluster.Replica {
	var others []*localcluster.Replica
	for _, r := range s.cluster.Replicas() {
		if r != of {
			others = append(others, r)
		}
	}
	n.shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return others
}
