package grpcsvc

import (
	"context"
	"math/rand/v2"
	"runtime/debug"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Metadata of calls and answers.
const (
	// headerForwarded names the replica that passed a call on: it goes no further.
	headerForwarded = "conclave-forwarded"
	// headerRequest names a call that is passed on, the same in all of its attempts.
	headerRequest = "conclave-request"
	// headerReport names a report that is passed on, by its session and its number there.
	headerReport = "conclave-report"
	// headerNode and headerIndex are the replica and the Raft index that an answer reflects.
	headerNode  = "conclave-node"
	headerIndex = "conclave-index"
)

// admit validates every request before it reaches its handler, and refuses what is too much.
func (s *Server) admit(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return s.through(ctx, info.FullMethod, func() (any, error) {
		if bad := validate(req); bad != nil {
			s.metrics.invalid(req)
			return nil, invalidField(bad)
		}
		resp, err := handler(ctx, req)
		if err != nil {
			return nil, statusOf(ctx, err)
		}
		return resp, nil
	})
}

// recovered turns a panic of a handler into an error: one call's bug must not take the replica,
// and its vote, down.
func (s *Server) recovered(ctx context.Context, p any) error {
	method, _ := grpc.Method(ctx)
	s.log.Error("a handler panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
	return status.Error(codes.Internal, "internal error: see the log of this replica")
}

// reflects says in the answer's metadata that it reflects this replica's state at an index.
func (s *Server) reflects(ctx context.Context, index uint64) { reflectsOf(ctx, s.node.ID(), index) }

func reflectsOf(ctx context.Context, node string, index uint64) {
	setHeader(ctx, headerOf(node, index))
}

func headerOf(node string, index uint64) metadata.MD {
	return metadata.Pairs(headerNode, node, headerIndex, strconv.FormatUint(index, 10))
}

func setHeader(ctx context.Context, md metadata.MD) {
	_ = grpc.SetHeader(ctx, md) // it fails only for a context that is not a call's
}

// forwarded says whether another replica has passed this call on.
func forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, headerForwarded)) > 0
}

// passedOn is what the replica that passed a call on says of it in a header; empty if none did.
func passedOn(ctx context.Context, header string) string {
	if values := metadata.ValueFromIncomingContext(ctx, header); len(values) == 1 && forwarded(ctx) {
		return values[0]
	}
	return ""
}

// requestID is the name of a call: its own, or the one that the replica gave it which passed it on.
func requestID(ctx context.Context) uint64 {
	if id, err := strconv.ParseUint(passedOn(ctx, headerRequest), 10, 64); err == nil {
		return id
	}
	return rand.Uint64()
}
