package chaos

import (
	"context"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

var networkFaults = []Fault{
	{Name: "isolate-leader", Group: groupNetwork, Weight: 3, inflict: isolateLeader},
	{Name: "isolate-follower", Group: groupNetwork, Weight: 1, inflict: isolateFollower},
	{Name: "halves", Group: groupNetwork, Weight: 1, inflict: halves},
	{Name: "leader-cannot-send", Group: groupNetwork, Weight: 1, inflict: oneWay(true)},
	{Name: "leader-cannot-hear", Group: groupNetwork, Weight: 1, inflict: oneWay(false)},
	{Name: "bridge", Group: groupNetwork, Weight: 1, inflict: bridge},
	{Name: "flapping", Group: groupNetwork, Weight: 1, inflict: flapping},
	{Name: "latency", Group: groupNetwork, Weight: 1, inflict: latency},
	{Name: "stall", Group: groupNetwork, Weight: 1, inflict: stall},
	{Name: "reset-connections", Group: groupNetwork, Weight: 1, inflict: resetConnections},
	{Name: "cut-mc-from-leader", Group: groupNetwork, Weight: 1, inflict: cutController},
	{Name: "cut-clients-from-replica", Group: groupNetwork, Weight: 1, inflict: cutClients},
}

// cut separates two replicas in both directions.
func (n *nemesis) cut(a, b *localcluster.Replica) {
	n.system.network.Cut(a.ID, b.ID)
	n.system.network.Cut(b.ID, a.ID)
}

func (n *nemesis) healBetween(a, b *localcluster.Replica) {
	n.system.network.Heal(a.ID, b.ID)
	n.system.network.Heal(b.ID, a.ID)
}

// longEnough is the time in which the others elect a leader and go on.
func (n *nemesis) longEnough(ctx context.Context) error {
	return n.hold(ctx, 1200*time.Millisecond, 2500*time.Millisecond)
}

// isolateLeader leaves the leader alone with its clients, and the fleet.
func isolateLeader(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	n.leaderLost(ctx, leader.ID)
	for _, r := range n.system.others(leader, n) {
		n.cut(leader, r)
	}
	return n.longEnough(ctx)
}

func isolateFollower(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	alone := n.system.others(leader, n)[0]
	n.hit(ctx, alone.ID)
	for _, r := range n.system.others(alone, n) {
		n.cut(alone, r)
	}
	return n.longEnough(ctx)
}

// halves puts the leader with as many others as leave it without a majority.
func halves(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	n.leaderLost(ctx, leader.ID)
	others := n.system.others(leader, n)
	minority := (len(others)+1)/2 - 1
	for _, far := range others[minority:] {
		n.cut(leader, far)
		for _, near := range others[:minority] {
			n.cut(near, far)
		}
	}
	return n.longEnough(ctx)
}

// oneWay cuts what the leader says to the others, or what they say to it.
func oneWay(sends bool) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		leader, err := n.system.leader(ctx)
		if err != nil {
			return err
		}
		n.leaderLost(ctx, leader.ID)
		for _, r := range n.system.others(leader, n) {
			if sends {
				n.system.network.Cut(leader.ID, r.ID)
			} else {
				n.system.network.Cut(r.ID, leader.ID)
			}
		}
		return n.longEnough(ctx)
	}
}

// bridge separates the leader from a follower, while the rest sees both.
func bridge(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	far := n.system.others(leader, n)[0]
	n.hit(ctx, leader.ID+" "+far.ID)
	n.cut(leader, far)
	return n.longEnough(ctx)
}

// flapping isolates a replica for moments that are about as long as the replicas' patience.
func flapping(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	n.hit(ctx, leader.ID)
	for range 5 {
		for _, r := range n.system.others(leader, n) {
			n.cut(leader, r)
		}
		if err := n.hold(ctx, lease, 2*lease); err != nil {
			return err
		}
		for _, r := range n.system.others(leader, n) {
			n.healBetween(leader, r)
		}
		if err := n.hold(ctx, lease/2, 2*lease); err != nil {
			return err
		}
	}
	return nil
}

func latency(ctx context.Context, n *nemesis) error {
	d := n.between(5*time.Millisecond, 40*time.Millisecond)
	n.hit(ctx, d.Round(time.Millisecond).String())
	for _, a := range n.system.cluster.Replicas() {
		for _, b := range n.system.others(a, n) {
			n.system.network.Delay(a.ID, b.ID, d)
		}
	}
	return n.longEnough(ctx)
}

// stall holds everything up between all replicas for a moment.
func stall(ctx context.Context, n *nemesis) error {
	for _, a := range n.system.cluster.Replicas() {
		for _, b := range n.system.others(a, n) {
			n.system.network.Cut(a.ID, b.ID)
		}
	}
	return n.hold(ctx, 100*time.Millisecond, 600*time.Millisecond)
}

func resetConnections(ctx context.Context, n *nemesis) error {
	for range 5 {
		for _, a := range n.system.cluster.Replicas() {
			for _, b := range n.system.others(a, n) {
				n.system.network.Reset(a.ID, b.ID)
			}
			n.system.network.Reset(a.ID, clientSide)
		}
		if err := n.hold(ctx, 50*time.Millisecond, 300*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// cutController cuts what a leader says to an MC, or what the MC answers, while its heartbeats go on.
func cutController(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	m := n.system.controllers[n.intN(len(n.system.controllers))]
	n.hit(ctx, m.ID())
	if n.intN(2) == 0 {
		n.system.network.Cut(leader.ID, m.ID())
	} else {
		n.system.network.Cut(m.ID(), leader.ID)
	}
	return n.longEnough(ctx)
}

func cutClients(ctx context.Context, n *nemesis) error {
	replicas := n.system.cluster.Replicas()
	r := replicas[n.intN(len(replicas))]
	n.hit(ctx, r.ID)
	n.system.network.Cut(clientSide, r.ID)
	n.system.network.Cut(fleetSide, r.ID)
	return n.longEnough(ctx)
}
