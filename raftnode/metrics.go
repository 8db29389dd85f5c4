package raftnode

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the counts of one replica's log.
type Metrics struct {
	applyDuration prometheus.Histogram
	batchSize     prometheus.Histogram
	leader        prometheus.Gauge
	leaderChanges prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		applyDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gc_fsm_apply_duration_seconds",
			Help:    "Time to apply a batch of committed Raft entries.",
			Buckets: prometheus.ExponentialBuckets(0.000005, 4, 10),
		}),
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gc_fsm_batch_size",
			Help:    "Commands that shared one Raft entry.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gc_leader",
			Help: "1 on the replica that leads and is ready to serve.",
		}),
		leaderChanges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gc_leader_changes_total",
			Help: "Changes of leader that this replica has seen.",
		}),
	}
	reg.MustRegister(m.applyDuration, m.batchSize, m.leader, m.leaderChanges)
	return m
}
