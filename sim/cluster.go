package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	// DefaultCallTimeout bounds one attempt at one replica.
	DefaultCallTimeout = 5 * time.Second

	retryBase = 50 * time.Millisecond
	retryMax  = 500 * time.Millisecond
)

// Cluster is a client's view of the replicas: one connection to each, used in turn. Replicas are
// killed and come back, so it reconnects quickly and moves on to the next replica at once.
// It is safe for concurrent use.
type Cluster struct {
	conns       []*grpc.ClientConn
	turn        atomic.Uint64
	callTimeout time.Duration
}

// Dial prepares connections to "addr[,addr…]" in plain text. It does not wait for any of them.
// callTimeout bounds each attempt; 0 means DefaultCallTimeout.
func Dial(targets string, callTimeout time.Duration) (*Cluster, error) {
	if callTimeout <= 0 {
		callTimeout = DefaultCallTimeout
	}
	c := &Cluster{callTimeout: callTimeout}
	for _, address := range strings.Split(targets, ",") {
		address = strings.TrimSpace(address)
		if address == "" {
			continue
		}
		conn, err := grpc.NewClient("passthrough:///"+address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff: backoff.Config{
					BaseDelay: retryBase, Multiplier: 1.6, Jitter: 0.2, MaxDelay: retryMax,
				},
				MinConnectTimeout: time.Second,
			}))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("preparing a connection to %s: %w", address, err), c.Close())
		}
		c.conns = append(c.conns, conn)
	}
	if len(c.conns) == 0 {
		return nil, fmt.Errorf("no replica address in %q", targets)
	}
	return c, nil
}

// Close closes every connection; calls under way fail.
func (c *Cluster) Close() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// Next returns the connection whose turn it is.
func (c *Cluster) Next() grpc.ClientConnInterface {
	return c.conns[(c.turn.Add(1)-1)%uint64(len(c.conns))]
}

// Call runs attempt against one replica after another until it succeeds, fails for a reason that
// another replica would give as well, or ctx ends. Each attempt has its own deadline. attempt must
// be safe to repeat: an attempt that failed may have had its effect.
func (c *Cluster) Call(ctx context.Context, attempt func(context.Context, grpc.ClientConnInterface) error) error {
	for tried := 1; ; tried++ {
		attemptCtx, cancel := context.WithTimeout(ctx, c.callTimeout)
		err := attempt(attemptCtx, c.Next())
		cancel()
		if err == nil || !retryable(err) || ctx.Err() != nil {
			return err
		}
		// The replica is at fault, not the cluster: the next one may well answer.
		if tried < len(c.conns) && replicaFailed(err) {
			continue
		}
		if !pause(ctx, retryDelay(tried-len(c.conns))) {
			return err
		}
	}
}

// retryable tells whether another replica, or the same one later, may answer differently.
func retryable(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled:
		return true
	}
	return false
}

// replicaFailed tells an unreachable or leaderless replica from one that spoke for the cluster.
func replicaFailed(err error) bool {
	reason := Reason(err)
	return reason == "NO_LEADER" || reason == codes.Unavailable.String() || reason == codes.DeadlineExceeded.String()
}

// Reason names why a call failed: the reason of its google.rpc.ErrorInfo, or else its code.
func Reason(err error) string {
	st := status.Convert(err)
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() != "" {
			return info.GetReason()
		}
	}
	return st.Code().String()
}

// retryDelay doubles from retryBase to retryMax, with half of it random so that clients that
// failed together do not come back together.
func retryDelay(round int) time.Duration {
	delay := retryMax
	if round < 4 {
		delay = min(retryBase<<max(round, 0), retryMax)
	}
	return delay/2 + rand.N(delay/2)
}

// pause waits and returns true, or returns false as soon as ctx ends.
func pause(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
