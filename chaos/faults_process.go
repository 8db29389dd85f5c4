package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

// The groups of faults.
const (
	groupProcess = "process"
	groupNetwork = "network"
	groupDisk    = "disk"
	groupFleet   = "fleet"
)

const contSignal = syscall.SIGCONT

// stopPatience is how long a replica may take to end after SIGTERM.
const stopPatience = 15 * time.Second

var processFaults = []Fault{
	{Name: "kill-leader", Group: groupProcess, Weight: 3, inflict: killLeader},
	{Name: "kill-follower", Group: groupProcess, Weight: 1, inflict: func(ctx context.Context, n *nemesis) error {
		return killSome(ctx, n, 1)
	}},
	{Name: "kill-majority", Group: groupProcess, Weight: 1, inflict: func(ctx context.Context, n *nemesis) error {
		return killSome(ctx, n, len(n.system.cluster.Replicas())/2+1)
	}},
	{Name: "kill-all", Group: groupProcess, Weight: 1, inflict: func(ctx context.Context, n *nemesis) error {
		return killSome(ctx, n, len(n.system.cluster.Replicas()))
	}},
	{Name: "stop-leader-half-lease", Group: groupProcess, Weight: 1, inflict: stopLeader(lease / 2)},
	{Name: "stop-leader-lease", Group: groupProcess, Weight: 1, inflict: stopLeader(lease)},
	{Name: "stop-leader-3-leases", Group: groupProcess, Weight: 3, inflict: stopLeader(3 * lease)},
	{Name: "stop-leader-10-leases", Group: groupProcess, Weight: 2, inflict: stopLeader(10 * lease)},
	{Name: "hand-over", Group: groupProcess, Weight: 1, inflict: handOver},
	{Name: "rolling-restart", Group: groupProcess, Weight: 1, inflict: rollingRestart},
}

func killLeader(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	n.leaderLost(ctx, leader.ID)
	if err := leader.Kill(); err != nil {
		return err
	}
	if err := n.hold(ctx, 900*time.Millisecond, 1500*time.Millisecond); err != nil {
		return err
	}
	return n.system.start(leader)
}

// killSome kills that many replicas at once, the leader among them when there are several.
func killSome(ctx context.Context, n *nemesis, count int) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	victims := n.system.others(leader, n)
	if count > 1 {
		victims = append([]*localcluster.Replica{leader}, victims...)
	}
	for _, r := range victims[:count] {
		if err := r.Kill(); err != nil {
			return err
		}
	}
	n.hit(ctx, fmt.Sprint(names(victims[:count])))
	if err := n.hold(ctx, 200*time.Millisecond, time.Second); err != nil {
		return err
	}
	for _, r := range victims[:count] {
		if err := n.system.start(r); err != nil {
			return err
		}
	}
	return nil
}

func names(replicas []*localcluster.Replica) (ids []string) {
	for _, r := range replicas {
		ids = append(ids, r.ID)
	}
	return ids
}

// stopLeader stops the leader's process as it is, and lets it go on: it finds itself in a later
// time than it believes.
func stopLeader(d time.Duration) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		leader, err := n.system.leader(ctx)
		if err != nil {
			return err
		}
		if d > 2*lease {
			n.leaderLost(ctx, leader.ID)
		} else {
			n.hit(ctx, leader.ID)
		}
		if err := leader.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		_ = pause(ctx, d) // it must go on even when the round ends
		// Reads that came while it was stopped: it finds them before it hears of anything.
		n.readers.readAt(leader.ID, n.drawn())
		time.Sleep(time.Millisecond)
		if err := leader.Signal(syscall.SIGCONT); err != nil {
			return err
		}
		return n.hold(ctx, 300*time.Millisecond, 700*time.Millisecond)
	}
}

// handOver ends the leader in an orderly way: it hands over before it goes.
func handOver(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	n.hit(ctx, leader.ID)
	if err := leader.Terminate(stopPatience); err != nil {
		return fmt.Errorf("%s did not end well after SIGTERM: %w", leader.ID, err)
	}
	return n.system.start(leader)
}

func rollingRestart(ctx context.Context, n *nemesis) error {
	for _, r := range n.system.cluster.Replicas() {
		if err := r.Terminate(stopPatience); err != nil {
			return fmt.Errorf("%s did not end well after SIGTERM: %w", r.ID, err)
		}
		if err := n.system.start(r); err != nil {
			return err
		}
		if err := n.system.awaitReady(ctx, r); err != nil {
			return err
		}
	}
	return nil
}
