package chaos

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

var fleetFaults = []Fault{
	{Name: "mc-slow", Group: groupFleet, Weight: 1, inflict: scripted(sim.Slow(400*time.Millisecond), sim.Slow(900*time.Millisecond))},
	{Name: "mc-accepts-then-dies", Group: groupFleet, Weight: 1, inflict: scripted(sim.AcceptThenDie())},
	{Name: "mc-answer-lost", Group: groupFleet, Weight: 1, inflict: scripted(sim.AcceptThenHang(), sim.Accept())},
	{Name: "mc-hangs", Group: groupFleet, Weight: 1, inflict: scripted(sim.Hang())},
	{Name: "mc-refuses", Group: groupFleet, Weight: 1, inflict: scripted(
		sim.Reject(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY), sim.Fail(codes.Internal), sim.Fail(codes.Unavailable))},
	{Name: "mc-restarts", Group: groupFleet, Weight: 1, inflict: restartController(false)},
	{Name: "mc-loses-memory", Group: groupFleet, Weight: 1, inflict: restartController(true)},
	{Name: "mc-drains", Group: groupFleet, Weight: 1, inflict: drainController},
	{Name: "mc-dies", Group: groupFleet, Weight: 1, inflict: killController},
	{Name: "mh-flaps", Group: groupFleet, Weight: 1, inflict: flapHandler},
	{Name: "mh-restarts", Group: groupFleet, Weight: 1, inflict: restartHandler},
}

// victims are MCs of one region, not all of them.
func (n *nemesis) victims() []*sim.MeetingController {
	first := n.intN(len(n.system.controllers))
	same := []*sim.MeetingController{n.system.controllers[first]}
	if next := (first + 1) % len(n.system.controllers); n.intN(2) == 0 {
		same = append(same, n.system.controllers[next])
	}
	return same
}

func scripted(steps ...sim.Step) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		for _, m := range n.victims() {
			n.hit(ctx, m.ID())
			m.SetScript(sim.Cycle(steps...))
			defer m.SetScript(nil)
		}
		return n.hold(ctx, time.Second, 2*time.Second)
	}
}

func restartController(forget bool) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		m := n.system.controllers[n.intN(len(n.system.controllers))]
		n.hit(ctx, m.ID())
		if err := m.Restart(forget); err != nil {
			return err
		}
		return n.hold(ctx, 500*time.Millisecond, time.Second)
	}
}

func drainController(ctx context.Context, n *nemesis) error {
	m := n.victims()[0]
	n.hit(ctx, m.ID())
	m.SetHealth(darktowerv1.HealthStatus_DRAINING)
	defer m.SetHealth(darktowerv1.HealthStatus_HEALTHY)
	return n.hold(ctx, time.Second, 2*time.Second)
}

// killController keeps an MC down until its meetings may have moved, and brings it back with all
// that it hosted.
func killController(ctx context.Context, n *nemesis) error {
	m := n.victims()[0]
	n.hit(ctx, m.ID())
	m.Stop()
	if err := n.hold(ctx, staleAfter, staleAfter+3*time.Second); err != nil {
		return err
	}
	return m.Restart(false)
}

func flapHandler(ctx context.Context, n *nemesis) error {
	h := n.system.handlers[n.intN(len(n.system.handlers))]
	n.hit(ctx, h.id)
	h.silent.Store(true)
	defer h.silent.Store(false)
	return n.hold(ctx, staleAfter-time.Second, staleAfter+3*time.Second)
}

func restartHandler(ctx context.Context, n *nemesis) error {
	h := n.system.handlers[n.intN(len(n.system.handlers))]
	n.hit(ctx, h.id)
	h.again.Store(true)
	return n.hold(ctx, 200*time.Millisecond, time.Second)
}
