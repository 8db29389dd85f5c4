package grpcsvc

import (
	"strings"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// metrics count what is served. No label carries an id that users choose.
type metrics struct {
	server      *grpcprom.ServerMetrics
	loadReports map[string]prometheus.Counter // by outcome
	forwards    *prometheus.CounterVec
	refused     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, machine *fsm.Machine) *metrics {
	reports := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gc_load_reports_total",
		Help: "Load reports of media handlers that this replica answered, by outcome.",
	}, []string{"outcome"})
	m := &metrics{
		server: grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(
			grpcprom.WithHistogramBuckets([]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}))),
		loadReports: make(map[string]prometheus.Counter),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gc_forwarded_requests_total",
			Help: "Attempts to have the leader answer what reached this replica, by outcome.",
		}, []string{"method", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gc_refused_requests_total",
			Help: "Calls that were refused since this replica had too many under way, most of them by their header alone.",
		}, []string{"method"}),
	}
	for _, outcome := range reportOutcomes {
		m.loadReports[outcome] = reports.WithLabelValues(outcome)
	}
	reg.MustRegister(m.server, reports, m.forwards, m.refused, censusCollector{machine})
	return m
}

// Outcomes of load reports.
const (
	reportAcknowledged  = "acknowledged"
	reportRepeated      = "repeated"
	reportNotRegistered = "not_registered"
	reportInvalid       = "invalid"
	reportFailed        = "failed"
	reportRefused       = "refused" // too many were under way
)

var reportOutcomes = []string{
	reportAcknowledged, reportRepeated, reportNotRegistered, reportInvalid, reportFailed, reportRefused,
}

func (m *metrics) loadReport(err error) {
	outcome := reportAcknowledged
	switch {
	case err == nil:
	case ReasonOf(err) == ReasonNotRegistered:
		outcome = reportNotRegistered
	default:
		outcome = reportFailed
	}
	m.countReports(outcome, 1)
}

func (m *metrics) countReports(outcome string, n int) {
	if n > 0 {
		m.loadReports[outcome].Add(float64(n))
	}
}

// refuse counts a call that found no room, by its method without the service.
func (m *metrics) refuse(method string) {
	m.refused.WithLabelValues(method).Inc()
	if method == "SendLoadReport" {
		m.countReports(reportRefused, 1)
	}
}

// invalid counts a load report that was refused before its handler saw it.
func (m *metrics) invalid(req any) {
	if _, ok := req.(*darktowerv1.SendLoadReportRequest); ok {
		m.countReports(reportInvalid, 1)
	}
}

func (m *metrics) forward(method string, err error) {
	outcome := "answered"
	switch {
	case err == nil:
	case tryAgain(err):
		outcome = "no_leader"
	case ReasonOf(err) != "":
		outcome = "refused"
	default:
		outcome = "failed"
	}
	m.forwards.WithLabelValues(method, outcome).Inc()
}

// censusCollector reads the gauges of the state when they are asked for.
type censusCollector struct{ machine *fsm.Machine }

var (
	handlersDesc = prometheus.NewDesc("gc_registered_media_handlers",
		"Registered media handlers.", []string{"region", "health"}, nil)
	controllersDesc = prometheus.NewDesc("gc_registered_meeting_controllers",
		"Registered meeting controllers.", []string{"region", "health"}, nil)
	assignmentsDesc = prometheus.NewDesc("gc_active_assignments",
		"Live assignments.", []string{"region"}, nil)
)

// Describe implements prometheus.Collector.
func (censusCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- handlersDesc
	ch <- controllersDesc
	ch <- assignmentsDesc
}

// Collect implements prometheus.Collector.
func (c censusCollector) Collect(ch chan<- prometheus.Metric) {
	var gauges []prometheus.Metric // sent after the state is unlocked
	gauge := func(desc *prometheus.Desc, count int, labels ...string) {
		gauges = append(gauges, prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(count), labels...))
	}
	c.machine.View(func(s *fsm.State) {
		s.NodeCensus(func(k fsm.CensusKey, count int) {
			desc := handlersDesc
			if k.Kind == fsm.MeetingController {
				desc = controllersDesc
			}
			gauge(desc, count, k.Region, healthName(k.Health))
		})
		s.LiveCensus(func(region string, count int) { gauge(assignmentsDesc, count, region) })
	})
	for _, g := range gauges {
		ch <- g
	}
}

// healthName is a health as metrics name it: pending, healthy, ...
func healthName(h fsm.Health) string {
	return strings.ToLower(strings.TrimPrefix(h.String(), "HEALTH_"))
}
