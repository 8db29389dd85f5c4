package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/localcluster/netfault"
	"github.com/conclave-rtc/conclave/sim"
)

// system is one of those that are compared.
type system struct {
	name  string
	about string // for the report
	// start makes a fresh cluster with its disks in dir. The network, if any, stands between its
	// replicas. What it returns is to be closed even with an error, if it is not nil.
	start func(ctx context.Context, dir string, n *netfault.Network) (cluster, error)
}

// cluster is three replicas that run. It is safe for concurrent use.
type cluster interface {
	replicas() []replica
	// leader waits until one leads, and returns its number.
	leader(ctx context.Context) (int, error)
	// agree returns nil if every replica follows the same leader and has applied what any of them
	// knows to be committed.
	agree(ctx context.Context) error
	// write writes something new through one replica, without another try, and returns what proves it.
	write(ctx context.Context, through int, key string) (proof uint64, err error)
	// holds says whether an acknowledged write is there, as it was acknowledged.
	holds(ctx context.Context, w write) (bool, error)
	close() error
}

// replica is one process, over all of its restarts.
type replica struct {
	id     string // in the network too
	start  func() error
	kill   func() error
	signal func(syscall.Signal) error
	pid    func() int
}

// settlePatience bounds how long a cluster may take to be whole again.
const settlePatience = time.Minute

// awaitWhole waits until every replica follows and has what was committed, and a write through each
// of them was acknowledged. It returns these writes.
func awaitWhole(ctx context.Context, c cluster, prefix string) ([]write, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, settlePatience, errors.New("the cluster did not become whole in time"))
	defer cancel()
	var written []write
	for n := 0; ; n++ {
		err := c.agree(ctx)
		for r := 0; err == nil && r < len(c.replicas()); r++ {
			w := write{key: fmt.Sprintf("%s-%d-%d", prefix, r, n)}
			if w.proof, err = writeOnce(ctx, c, r, w.key); err == nil {
				written = append(written, w)
			}
		}
		if err == nil {
			return written, nil
		}
		if !sleepUntil(ctx, time.Now().Add(20*time.Millisecond)) {
			return written, fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		}
	}
}

func writeOnce(ctx context.Context, c cluster, through int, key string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.write(ctx, through, key)
}

// errWrong: the answer was a success and not what was asked for. Fast wrong answers must not count.
var errWrong = errors.New("wrong answer")

func reasonOf(err error) string {
	if errors.Is(err, errWrong) {
		return "WRONG_ANSWER"
	}
	return sim.Reason(err)
}
