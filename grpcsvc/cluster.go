package grpcsvc

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/fsm"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// cluster describes the replicas.
type cluster struct {
	conclavev1.UnimplementedClusterServiceServer
	*Server
}

// GetStatus describes the cluster as this replica sees it.
func (c cluster) GetStatus(ctx context.Context, _ *conclavev1.GetStatusRequest) (*conclavev1.GetStatusResponse, error) {
	status := c.node.Status()
	resp := &conclavev1.GetStatusResponse{
		NodeId:      c.node.ID(),
		LeaderId:    status.Leader,
		Term:        status.Term,
		CommitIndex: status.CommitIndex,
		Version:     c.config.Version,
	}
	resp.AppliedIndex = c.view(ctx, func(s *fsm.State) {
		counts := s.Counts()
		resp.StateHash = s.Hash()
		resp.MediaHandlers = uint64(counts.MediaHandlers)
		resp.MeetingControllers = uint64(counts.MeetingControllers)
		resp.LiveAssignments = uint64(counts.LiveAssignments)
		for _, m := range status.Members {
			resp.Members = append(resp.Members, encodeMember(m, s.Member(m.ID)))
		}
	})
	c.reachMembers(ctx, resp.Members)
	return resp, nil
}

// reachTimeout is how long a replica has to show that it can be reached.
const reachTimeout = 500 * time.Millisecond

// reachMembers asks every other replica for a sign of life, all at once.
func (c cluster) reachMembers(ctx context.Context, members []*conclavev1.Member) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() { m.Reachable = m.Id == c.node.ID() || c.reachable(ctx, m.GrpcAddress) })
	}
	wg.Wait()
}

func (c cluster) reachable(ctx context.Context, address string) bool {
	if address == "" {
		return false
	}
	conn, err := c.peers.connTo(address)
	if err != nil {
		return false
	}
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	return err == nil || status.Code(err) == codes.NotFound // not known yet is an answer too
}
