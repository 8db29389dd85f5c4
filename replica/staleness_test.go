package replica

import (
	"fmt"
	"testing"
	"time"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

const testStaleAfter = 2 * time.Second

func withShortSilence(c *Config) {
	c.LoadReportInterval, c.StaleAfter = testStaleAfter/4, testStaleAfter
}

func (m *member) handlerHealth(t *testing.T, id string) darktowerv1.HealthStatus {
	t.Helper()
	return m.handler(t, id).Health
}

// becomes waits until every media handler and controller named has a health.
func (c *testCluster) becomes(t *testing.T, want darktowerv1.HealthStatus, handlers, controllers []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%v %v are %v", handlers, controllers, want), func() error {
		for _, id := range handlers {
			if got := c.leader(t).handlerHealth(t, id); got != want {
				return fmt.Errorf("%s is %v", id, got)
			}
		}
		for _, id := range controllers {
			if got := c.leader(t).controller(t, id).Health; got != want {
				return fmt.Errorf("%s is %v", id, got)
			}
		}
		return nil
	})
}

// A silent node becomes unhealthy, whatever it was, and not earlier than it may; one report
// brings it back.
func TestSilentNodesBecomeUnhealthyAndComeBack(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, withShortSilence)
	handlers := []mh{
		{id: "well", region: "s", max: 10},
		{id: "degraded", region: "s", health: darktowerv1.HealthStatus_DEGRADED},
		{id: "draining", region: "s", health: darktowerv1.HealthStatus_DRAINING},
	}
	began := time.Now()
	var ids []string
	for _, h := range handlers {
		c.addMH(t, h)
		ids = append(ids, h.id)
	}
	mh{id: "pending", region: "s"}.register(t, c.follower(t))
	ids = append(ids, "pending")
	mc := c.addMC(t, "mc", "s")
	a := c.follower(t).join(t, "s", "m").Assignment

	c.becomes(t, darktowerv1.HealthStatus_UNHEALTHY, ids, []string{"mc"})
	if silent := time.Since(began); silent < testStaleAfter {
		t.Errorf("they are unhealthy after %v, they may be silent for %v", silent, testStaleAfter)
	}
	_, err := c.follower(t).tryJoin(t.Context(), "s", "new")
	noHandlers.must(t, err)

	handlers[0].report(t, c.follower(t))
	if got := c.leader(t).handlerHealth(t, "well"); got != darktowerv1.HealthStatus_HEALTHY {
		t.Errorf("after one report it is %v", got)
	}
	_, err = c.follower(t).tryJoin(t.Context(), "s", "new")
	noControllers.must(t, err)
	heartbeat(t, mc)
	c.follower(t).join(t, "s", "new")
	// It is back before anybody joined: what it hosted is still its own.
	if again := c.leader(t).join(t, "s", "m"); again.Created || !sameAssignment(again.Assignment, a) {
		t.Errorf("its meeting is %v now, want %v", again, a)
	}
}

// The meeting of a controller that is gone moves at the next join, and what its old controller
// says of it counts no more.
func TestMeetingOfAStaleControllerMoves(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, withShortSilence)
	c.addMH(t, mh{id: "mh", region: "s", max: 100})
	gone := c.addMC(t, "gone", "s")
	before := c.follower(t).join(t, "s", "m").Assignment
	c.becomes(t, darktowerv1.HealthStatus_UNHEALTHY, nil, []string{"gone"})

	mh{id: "mh", region: "s", max: 100}.report(t, c.follower(t))
	heir := c.addMC(t, "heir", "s")
	after := c.follower(t).join(t, "s", "m")
	if !after.Created || !hosts(heir, after.Assignment) || after.Assignment.FencingToken <= before.FencingToken {
		t.Fatalf("joined again: %v, want it at the heir with a token above %d", after, before.FencingToken)
	}
	// It is told at once when it can be reached, and by its next heartbeat in any case.
	heartbeat(t, gone)
	notHosting(t, gone, "s", "m")
	fenced.must(t, endByController(t, c.follower(t), "s", "m", before.FencingToken))
	if live := c.leader(t).live(t, "s", "m"); live == nil || !hosts(heir, live) {
		t.Errorf("the old controller disturbed the new: %v", live)
	}
}

// Reports that keep coming keep a node well, through every replica, for far longer than silence
// may last.
func TestReportingNodesStayWell(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, withShortSilence)
	handler := sim.NewMediaHandler(c.sim, sim.MediaHandlerConfig{ID: "mh", Region: "s"})
	mc := c.addMC(t, "mc", "s")
	go handler.Run(t.Context())
	go mc.Run(t.Context())
	c.becomes(t, darktowerv1.HealthStatus_HEALTHY, nil, []string{"mc"})
	eventually(t, "the handler has reported", func() error {
		if handler.LastAcknowledged().IsZero() {
			return fmt.Errorf("nothing is acknowledged")
		}
		return nil
	})
	for began := time.Now(); time.Since(began) < 2*testStaleAfter; <-time.After(pollInterval) {
		m := c.follower(t)
		if h, mc := m.handlerHealth(t, "mh"), m.controller(t, "mc").Health; h != darktowerv1.HealthStatus_HEALTHY || mc != darktowerv1.HealthStatus_HEALTHY {
			t.Fatalf("the handler is %v, the controller %v", h, mc)
		}
	}
}
