package grpcsvc

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-rtc/conclave/batch"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// errNoLeaderYet: the leader was lost before it answered this attempt. Every write is idempotent by
// a key of its own, so another attempt cannot make two effects of it.
var errNoLeaderYet = errors.New("no leader answered this attempt")

// reasonNotLeader is what a replica tells one that took it for the leader. Clients never see it.
const reasonNotLeader = "NOT_LEADER"

const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 100 * time.Millisecond
	// answerTime is kept of the caller's time to send the answer: one that comes with the
	// deadline comes too late, and the caller would learn only that time is up.
	answerTime = 100 * time.Millisecond
)

// atLeader runs here when this replica leads, and there when another one does, and looks for the
// leader again, with jittered waits, until the caller's deadline or the forward timeout. A call
// that was forwarded already has one attempt, here.
func atLeader[T any](ctx context.Context, s *Server, method string, here func() (T, error), there func(context.Context, *leaderView) (T, error)) (T, error) {
	return retry(ctx, s, func() (T, error) { return attempt(ctx, s, method, here, there) })
}

func retry[T any](ctx context.Context, s *Server, attempt func() (T, error)) (T, error) {
	var none T
	giveUp := s.giveUp(ctx)
	inDoubt := false
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		result, err := attempt()
		// "Too much work" tells the caller that nothing was done, which an attempt before may have.
		if !tryAgain(err) && !(inDoubt && tooMuch(err)) {
			return result, err
		}
		inDoubt = inDoubt || !errors.Is(err, raftnode.ErrNotLeader)
		if forwarded(ctx) {
			return none, statusError(codes.FailedPrecondition, reasonNotLeader, "this replica does not lead", nil)
		}
		if time.Now().Add(wait).After(giveUp) {
			return none, noLeader()
		}
		select {
		case <-time.After(wait/2 + rand.N(wait/2)):
		case <-ctx.Done():
			return none, noLeaderIn(ctx)
		case <-s.done:
			return none, noLeader()
		}
	}
}

// giveUp is until when a call looks for a leader.
func (s *Server) giveUp(ctx context.Context) time.Time {
	left := s.config.ForwardTimeout
	if deadline, ok := ctx.Deadline(); ok {
		until := time.Until(deadline)
		left = min(left, until-min(until/4, answerTime))
	}
	return time.Now().Add(left)
}

// noLeaderIn is the error of a call whose context ended while no leader was found.
func noLeaderIn(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return status.FromContextError(ctx.Err()).Err()
	}
	return noLeader()
}

func attempt[T any](ctx context.Context, s *Server, method string, here func() (T, error), there func(context.Context, *leaderView) (T, error)) (T, error) {
	if s.node.Leading() != nil {
		return here()
	}
	var none T
	leader := s.peers.leader()
	if leader == nil || forwarded(ctx) {
		return none, raftnode.ErrNotLeader
	}
	result, err := there(ctx, leader)
	err = remoteError(ctx, err)
	s.metrics.forward(method, err)
	return result, err
}

// sharedTimeout bounds a request to the leader that many calls share.
const sharedTimeout = 5 * time.Second

// askLeader asks the leader for many calls at once, none of whose deadlines counts. Each call takes the
// error as that of its own attempt.
func (s *Server) askLeader(req *replicav1.ForwardRequest) (*replicav1.ForwardResponse, error) {
	leader := s.peers.leader()
	if leader == nil {
		return nil, raftnode.ErrNotLeader
	}
	ctx, cancel := context.WithTimeout(context.Background(), sharedTimeout)
	defer cancel()
	resp, err := leader.ask(ctx, req)
	if err != nil && ctx.Err() != nil {
		return nil, errNoLeaderYet
	}
	return resp, err
}

// remoteError tells the leader's own word from a failure to reach it.
func remoteError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case tryAgain(err):
		return err
	}
	switch reason := ReasonOf(err); {
	case reason == reasonNotLeader, reason == ReasonNoLeader:
		return errNoLeaderYet
	case reason != "":
		return err
	case status.Code(err) == codes.Unavailable, status.Code(err) == codes.Canceled:
		return errNoLeaderYet // the connection, not the leader
	}
	return err
}

func tryAgain(err error) bool {
	return errors.Is(err, errNoLeaderYet) ||
		errors.Is(err, raftnode.ErrNotLeader) ||
		errors.Is(err, raftnode.ErrInDoubt)
}

func tooMuch(err error) bool {
	return errors.Is(err, raftnode.ErrOverloaded) || errors.Is(err, batch.ErrFull) || ReasonOf(err) == ReasonOverloaded
}

// pass forwards one unary call as it is, and returns what its answer reflects.
func pass(ctx context.Context, s *Server, leader *leaderView, method string, req, resp proto.Message) (metadata.MD, error) {
	attempt, cancel := leader.bind(ctx)
	defer cancel()
	var header metadata.MD
	err := leader.conn.Invoke(metadata.AppendToOutgoingContext(attempt, headerForwarded, s.node.ID()), method, req, resp, grpc.Header(&header))
	if err != nil && attempt.Err() != nil {
		return nil, errNoLeaderYet // the leader changed while it was asked
	}
	reflected := metadata.MD{}
	for _, key := range []string{headerNode, headerIndex} {
		if v := header.Get(key); len(v) > 0 {
			reflected.Set(key, v...)
		}
	}
	return reflected, err
}
