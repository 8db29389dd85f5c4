package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/fleet"
	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/localcluster/netfault"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

const (
	controllers   = 10
	mediaHandlers = 100
	// staleAfter keeps media handlers alive that report only once.
	staleAfter = time.Hour
	// startPatience bounds how long a fresh cluster may take until it serves.
	startPatience = 30 * time.Second
)

// conclaveSystem is Conclave with the timers that it has by default.
func conclaveSystem(binary string) system {
	return system{
		name: "conclave",
		about: fmt.Sprintf("Conclave, default timers; a write is AssignMeeting of a new meeting, which includes a call "+
			"to one of %d simulated meeting controllers and the choice among %d media handlers", controllers, mediaHandlers),
		start: func(ctx context.Context, dir string, n *netfault.Network) (cluster, error) {
			c := new(conclaveCluster)
			return c, c.start(ctx, localcluster.Config{
				Binary: binary, Dir: dir, Network: n,
				Args: []string{"--region", fleet.Region, "--stale-after", staleAfter.String()},
			})
		},
	}
}

type conclaveCluster struct {
	cluster *localcluster.Cluster
	conns   []*grpc.ClientConn // one to each replica
	around  *fleet.Fleet
}

func (c *conclaveCluster) start(ctx context.Context, config localcluster.Config) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("the replicas did not start in time"))
	defer cancel()
	if c.cluster, err = localcluster.New(config); err != nil {
		return err
	}
	if err := c.cluster.Start(); err != nil {
		return err
	}
	if _, err := c.cluster.Leader(ctx); err != nil {
		return err
	}
	for _, r := range c.cluster.Replicas() {
		conn, err := r.Conn()
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
	}
	c.around, err = fleet.Start(ctx, fleet.Config{
		Targets: c.cluster.Targets(), CallTimeout: callTimeout,
		Controllers: controllers, MediaHandlers: mediaHandlers, StaleAfter: staleAfter,
	})
	return err
}

func (c *conclaveCluster) close() error {
	var errs []error
	if c.around != nil {
		errs = append(errs, c.around.Close())
	}
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	if c.cluster != nil {
		c.cluster.Stop()
	}
	return errors.Join(errs...)
}

func (c *conclaveCluster) replicas() []replica {
	var all []replica
	for _, r := range c.cluster.Replicas() {
		all = append(all, replica{
			id: r.ID, start: func() error { return r.Start() }, kill: r.Kill, signal: r.Signal, pid: r.PID,
		})
	}
	return all
}

func (c *conclaveCluster) leader(ctx context.Context) (int, error) {
	leader, err := c.cluster.Leader(ctx)
	if err != nil {
		return 0, err
	}
	return slices.Index(c.cluster.Replicas(), leader), nil
}

func (c *conclaveCluster) agree(ctx context.Context) error {
	var views []view
	for _, r := range c.cluster.Replicas() {
		status, err := r.Status(ctx)
		if err != nil {
			return fmt.Errorf("ask %s how it is: %w", r.ID, err)
		}
		views = append(views, view{status.LeaderId, status.Term, status.CommitIndex, status.AppliedIndex})
	}
	return agreement(views)
}

func (c *conclaveCluster) write(ctx context.Context, through int, key string) (uint64, error) {
	resp, err := conclavev1.NewAssignmentServiceClient(c.conns[through]).AssignMeeting(ctx,
		&conclavev1.AssignMeetingRequest{MeetingId: key, Region: fleet.Region})
	if err != nil {
		return 0, fmt.Errorf("assign %s: %w", key, err)
	}
	// That it was created already is no fault: a replica tries again when its leader died over it.
	if resp.Assignment.GetMeetingId() != key || resp.Assignment.GetFencingToken() == 0 {
		return 0, errWrong
	}
	return resp.Assignment.FencingToken, nil
}

func (c *conclaveCluster) holds(ctx context.Context, w write) (bool, error) {
	resp, err := conclavev1.NewAssignmentServiceClient(c.conns[0]).GetAssignment(ctx, &conclavev1.GetAssignmentRequest{
		MeetingId: w.key, Region: fleet.Region, Consistency: conclavev1.Consistency_LINEARIZABLE,
	})
	if err != nil && reasonOf(err) == "NO_ASSIGNMENT" {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %s: %w", w.key, err)
	}
	return resp.Assignment.GetFencingToken() == w.proof, nil
}
