package assign

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what becomes of joins. No label carries an id.
type Metrics struct {
	assignments        *prometheus.CounterVec
	assignmentDuration *prometheus.HistogramVec
	selections         *prometheus.CounterVec
	calls              *prometheus.CounterVec
	callDuration       prometheus.Histogram
	orphans            *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	buckets := []float64{.005, .010, .015, .020, .030, .050, .100, .250, .500}
	m := &Metrics{
		assignments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gc_mc_assignments_total",
			Help: "Joins by outcome: success (a new assignment), reused, rejected, error.",
		}, []string{"status", "rejection_reason"}),
		assignmentDuration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gc_mc_assignment_duration_seconds",
			Help:    "Time from a join's arrival at the leader to its answer.",
			Buckets: buckets,
		}, []string{"status"}),
		selections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gc_mh_selections_total",
			Help: "Choices of media handlers.",
		}, []string{"status", "has_backup"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gc_mc_calls_total",
			Help: "Calls of AssignMeetingWithMh by outcome.",
		}, []string{"outcome"}),
		callDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gc_mc_call_duration_seconds",
			Help:    "Time that a meeting controller takes to answer AssignMeetingWithMh.",
			Buckets: buckets,
		}),
		orphans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gc_orphaned_acceptances_total",
			Help: "Acceptances, certain or possible, that did not become an assignment at once, by how they ended.",
		}, []string{"resolution"}),
	}
	reg.MustRegister(m.assignments, m.assignmentDuration, m.selections, m.calls, m.callDuration, m.orphans)
	return m
}

func (m *Metrics) controllerCall(outcome string, took time.Duration) {
	m.calls.WithLabelValues(outcome).Inc()
	m.callDuration.Observe(took.Seconds())
}

func (m *Metrics) selection(handlers int) {
	status, backup := "success", "false"
	switch handlers {
	case 0:
		status = "none"
	case 2:
		backup = "true"
	}
	m.selections.WithLabelValues(status, backup).Inc()
}
