package assign

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/conclave-rtc/conclave/fsm"
	"github.com/conclave-rtc/conclave/sim"
)

// counted is the value of a counter.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestMetricsCountOutcomes(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(2, sim.Cycle(sim.Reject(draining), sim.Accept()))
	r.mustJoin("m")
	r.mustJoin("m")
	for i := range 2 {
		r.log.report(fsm.MeetingController, nodeID("mc", i), fsm.Draining, 0)
	}
	if _, err := r.join("other"); !errors.Is(err, ErrNoControllers) {
		t.Fatal(err)
	}
	for _, c := range []struct{ status, reason string }{{"success", "none"}, {"reused", "none"}, {"error", "none"}} {
		if n := counted(t, r.metrics.assignments.WithLabelValues(c.status, c.reason)); n != 1 {
			t.Errorf("%v joins of status %s, want 1", n, c.status)
		}
	}
	for _, outcome := range []string{"accepted", "rejected"} {
		if n := counted(t, r.metrics.calls.WithLabelValues(outcome)); n != 1 {
			t.Errorf("%v calls of outcome %s, want 1", n, outcome)
		}
	}
	if n := counted(t, r.metrics.selections.WithLabelValues("success", "true")); n != 2 {
		t.Errorf("%v selections with backup, want 2", n)
	}
}
