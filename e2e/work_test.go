package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/sim"
)

// startFleet runs media handlers and meeting controllers until the test ends.
func (c *cluster) startFleet(t *testing.T, handlers, controllers int) *sim.Fleet {
	t.Helper()
	fleet, err := sim.NewFleet(c.all, sim.FleetConfig{
		MediaHandlers: handlers, MeetingControllers: controllers, Seed: 1,
		Stagger: 100 * time.Millisecond, StaleAfter: 4 * time.Second,
		ComprehensiveInterval: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { fleet.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	if err := fleet.Ready(patience(t, settlePatience)); err != nil {
		t.Fatal(err)
	}
	return fleet
}

// traffic is joins and ends of meetings through all replicas, with the ledger of what was
// acknowledged.
type traffic struct {
	*sim.Joiners
	cluster *cluster
	fleet   *sim.Fleet
	ledger  *sim.Ledger
	end     context.CancelFunc
	running sync.WaitGroup
}

// startTraffic lets people join until stop. The prefix sets its meetings apart from others'.
func (c *cluster) startTraffic(t *testing.T, fleet *sim.Fleet, prefix string) *traffic {
	t.Helper()
	w := &traffic{cluster: c, fleet: fleet, ledger: sim.NewLedger()}
	w.Joiners = sim.NewJoiners(c.all, w.ledger, sim.JoinersConfig{
		Workers: 8, Rate: 200, MaxLive: 200, Zones: []string{"a", "b"}, Seed: 1, Prefix: prefix,
	})
	ctx, cancel := context.WithCancel(context.Background())
	w.end = cancel
	w.running.Go(func() { w.Run(ctx) })
	w.running.Go(func() { w.ledger.Watch(ctx, c.all, fleet, 500*time.Millisecond) })
	t.Cleanup(w.stop)
	return w
}

func (w *traffic) stop() {
	w.end()
	w.running.Wait()
}

// progress waits for as many more acknowledged joins.
func (w *traffic) progress(t *testing.T, joins int) {
	t.Helper()
	before := w.ledger.Joins()
	until(t, settlePatience, fmt.Sprintf("%d more joins", joins), func() error {
		if now := w.ledger.Joins() - before; now < joins {
			return fmt.Errorf("only %d; refused: %v", now, w.Stats().Errors)
		}
		return nil
	})
}

// judge holds every replica to all that was acknowledged. The traffic must have stopped.
func (w *traffic) judge(t *testing.T) {
	t.Helper()
	for _, r := range w.cluster.Replicas() {
		verdict, err := w.ledger.Verdict(patience(t, settlePatience), dial(t, r.GRPCAddr), w.fleet, settlePatience)
		if err != nil {
			t.Fatal(err)
		}
		if !verdict.OK() {
			t.Errorf("%s has not kept the cluster's word:\n%s", r.ID, verdict)
		}
	}
	stats := w.Stats()
	t.Logf("%d joins and %d ends acknowledged, %d given up, refused and tried again: %v",
		stats.Joins, stats.Ends, stats.GaveUp, stats.Errors)
}
