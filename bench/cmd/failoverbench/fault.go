package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/localcluster/netfault"
)

// Names of the faults.
const (
	sigkill   = "SIGKILL"
	sigstop   = "SIGSTOP"
	partition = "partition"
)

// fault is what happens to a leader.
type fault struct {
	name string
	// lasts is how long, whatever becomes of the writes; 0: until writes go on without it.
	lasts time.Duration
	// network: it needs one between the replicas.
	network bool
	// begin returns when the fault has taken hold.
	begin func(ctx context.Context, on site) error
	end   func(on site) error
}

// site is where a fault happens.
type site struct {
	replicas []replica
	leader   int
	network  *netfault.Network
}

// faults are measured in this order.
func faults(lasts time.Duration) []fault {
	return []fault{
		{
			name: sigkill,
			begin: func(_ context.Context, on site) error {
				return on.replicas[on.leader].kill()
			},
			end: func(on site) error { return on.replicas[on.leader].start() },
		},
		{
			name: sigstop, lasts: lasts,
			begin: func(ctx context.Context, on site) error {
				if err := on.replicas[on.leader].signal(syscall.SIGSTOP); err != nil {
					return err
				}
				return awaitStopped(ctx, on.replicas[on.leader].pid())
			},
			end: func(on site) error { return on.replicas[on.leader].signal(syscall.SIGCONT) },
		},
		{
			name: partition, lasts: lasts, network: true,
			begin: func(_ context.Context, on site) error {
				leader := on.replicas[on.leader].id
				for i, r := range on.replicas {
					if i != on.leader {
						on.network.Cut(leader, r.id)
						on.network.Cut(r.id, leader)
					}
				}
				return nil
			},
			end: func(on site) error {
				on.network.HealAll()
				return nil
			},
		},
	}
}

// awaitStopped waits until no thread of a process runs: the kernel stops them one by one.
func awaitStopped(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Second, errors.New("it runs on"))
	defer cancel()
	for {
		stopped, err := allStopped(pid)
		if err != nil || stopped {
			return err
		}
		if !sleepUntil(ctx, time.Now().Add(100*time.Microsecond)) {
			return fmt.Errorf("stop the process %d: %w", pid, context.Cause(ctx))
		}
	}
}

func allStopped(pid int) (bool, error) {
	stats, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "stat"))
	if err != nil {
		return false, fmt.Errorf("list the threads of %d: %w", pid, err)
	}
	if len(stats) == 0 {
		return false, fmt.Errorf("the process %d has no threads", pid)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // a thread that has ended
		}
		if err != nil {
			return false, fmt.Errorf("ask for the state of a thread: %w", err)
		}
		// proc(5): pid (name) state …; the name may hold anything.
		_, rest, _ := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
		if len(rest) == 0 || rest[0] != 'T' {
			return false, nil
		}
	}
	return true, nil
}
