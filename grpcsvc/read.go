package grpcsvc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/fsm"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// prepareRead returns once this replica's state is fresh enough for a read.
func (s *Server) prepareRead(ctx context.Context, c conclavev1.Consistency, minIndex uint64) error {
	if c == conclavev1.Consistency_LINEARIZABLE {
		if err := s.linearize(ctx); err != nil {
			return err
		}
	}
	if minIndex == 0 {
		return nil
	}
	if err := s.waitApplied(ctx, minIndex); err != nil {
		return status.Errorf(codes.DeadlineExceeded,
			"min_index: this replica has applied index %d, not yet %d", s.node.Machine().Index(), minIndex)
	}
	return nil
}

// linearize returns once this replica's state reflects every write acknowledged before the call.
// Every attempt asks the leader for a fresh index: one from before a pause or an election may be
// of the past.
func (s *Server) linearize(ctx context.Context) error {
	read, err := atLeader(ctx, s, "ReadIndex",
		func() (raftnode.ReadIndex, error) { return s.node.ReadIndex(ctx) },
		func(ctx context.Context, _ *leaderView) (raftnode.ReadIndex, error) {
			return s.reads.Do(ctx, s.askReadIndex)
		})
	if err != nil {
		return err
	}
	return s.catchUp(ctx, read.Index)
}

// waitApplied waits until this replica has applied an index, as long as a call looks for a leader.
func (s *Server) waitApplied(ctx context.Context, index uint64) error {
	if s.node.Machine().Index() >= index {
		return nil // mostly: so no timer is made for nothing
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.ForwardTimeout)
	defer cancel()
	return s.node.WaitApplied(ctx, index)
}

// catchUp waits until this replica has applied an index that its leader has committed. One that
// is cut off from the log, though not from the leader's gRPC services, would wait forever.
func (s *Server) catchUp(ctx context.Context, index uint64) error {
	if err := s.waitApplied(ctx, index); err != nil {
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
		return noLeader()
	}
	return nil
}

// askReadIndex is one question to the leader, for all reads that wait for one.
func (s *Server) askReadIndex() (raftnode.ReadIndex, error) {
	resp, err := s.askLeader(&replicav1.ForwardRequest{Request: &replicav1.ForwardRequest_ReadIndex{
		ReadIndex: new(replicav1.ReadIndexRequest),
	}})
	if err != nil {
		return raftnode.ReadIndex{}, errors.Join(errNoLeaderYet, err)
	}
	read := resp.GetReadIndex()
	if read == nil {
		return raftnode.ReadIndex{}, errors.New("the leader answered no read index")
	}
	return raftnode.ReadIndex{Index: read.Index, Term: read.Term}, nil
}

// view reads the state and says in the answer's metadata which index it was.
func (s *Server) view(ctx context.Context, read func(*fsm.State)) (index uint64) {
	s.node.Machine().View(func(state *fsm.State) {
		index = state.Index()
		read(state)
	})
	s.reflects(ctx, index)
	return index
}

// viewAtLeisure is view for reads that may look at many records: they read a copy, so that
// nothing waits for them.
func (s *Server) viewAtLeisure(ctx context.Context, read func(*fsm.State)) uint64 {
	state := s.node.Machine().Snapshot()
	read(state)
	s.reflects(ctx, state.Index())
	return state.Index()
}
