package main

import (
	"fmt"
	"strconv"

	"github.com/conclave-rtc/conclave/bench/measure"
)

// bar is what Conclave is held to: a figure of its own, or its ratio to another system's in the same
// run.
type bar struct {
	name string
	unit string
	// most: the figure must be at most the limit, else at least.
	most  bool
	limit float64
	// figure computes it; false when something that it needs was not measured.
	figure func(lookup) (float64, bool)
}

// lookup finds a sample of the report.
type lookup func(key) *measure.Sample

// aspect is what of a sample counts.
type aspect func(*measure.Sample) float64

func rate(s *measure.Sample) float64 { return s.PerSecond }
func p50(s *measure.Sample) float64  { return s.Latency.P50.Seconds() }
func p95(s *measure.Sample) float64  { return s.Latency.P95.Seconds() }

var bars = []bar{
	{name: "report, 512 callers ÷ echo", limit: 0.5,
		figure: ratio(rate, key{sysConclave, wReport, 512}, key{sysEcho, wEcho, 512})},
	{name: "report, 512 callers ÷ etcd put", limit: 1.5,
		figure: ratio(rate, key{sysConclave, wReport, 512}, key{sysEtcd, wReport, 512})},
	{name: "report, 64 callers ÷ etcd put", limit: 2.5,
		figure: ratio(rate, key{sysConclave, wReport, 64}, key{sysEtcd, wReport, 64})},
	{name: "report stream", unit: "/s", limit: 100_000,
		figure: plain(rate, 1, key{sysConclave, wStream, 3 * streamsPerReplica})},
	{name: "assign new, 64 callers ÷ etcd create-if-absent", limit: 1.2,
		figure: ratio(rate, key{sysConclave, wAssign, 64}, key{sysEtcd, wAssign, 64})},
	{name: "assign new, 64 callers ÷ PostgreSQL flow", limit: 4,
		figure: ratio(rate, key{sysConclave, wAssign, 64}, key{sysPostgres, wAssign, 64})},
	{name: "assign new, 64 callers, p95", unit: " ms", most: true, limit: 20,
		figure: plain(p95, 1000, key{sysConclave, wAssign, 64})},
	{name: "get linearizable, 64 callers ÷ etcd get", limit: 2,
		figure: ratio(rate, key{sysConclave, wGet, 64}, key{sysEtcd, wGet, 64})},
	{name: "assign new, 1 caller, p50 ÷ (etcd create-if-absent p50 + echo p50)", most: true, limit: 1,
		figure: ratio(p50, key{sysConclave, wAssign, 1}, key{sysEtcd, wAssign, 1}, key{sysEcho, wEcho, 1})},
}

// ratio is that of one row to the sum of others.
func ratio(of aspect, row key, others ...key) func(lookup) (float64, bool) {
	return func(at lookup) (float64, bool) {
		sum := 0.0
		for _, k := range others {
			s := at(k)
			if s == nil {
				return 0, false
			}
			sum += of(s)
		}
		s := at(row)
		if s == nil || sum == 0 {
			return 0, false
		}
		return of(s) / sum, true
	}
}

// plain is one row, in another unit.
func plain(of aspect, times float64, row key) func(lookup) (float64, bool) {
	return func(at lookup) (float64, bool) {
		s := at(row)
		if s == nil {
			return 0, false
		}
		return of(s) * times, true
	}
}

// Results of a bar.
const (
	met         = "met"
	missed      = "missed"
	notMeasured = "not measured"
)

// verdictOn is one bar, held against what was measured.
type verdictOn struct {
	Bar    string   `json:"bar"`
	Wanted string   `json:"wanted"`
	Figure *float64 `json:"figure,omitempty"`
	// Least and Most are the extremes of the rounds, each by itself.
	Least *float64 `json:"least,omitempty"`
	Most  *float64 `json:"most,omitempty"`
	// AtLeader is the same with Conclave's callers all at the leader. It decides nothing.
	AtLeader *float64 `json:"at_leader,omitempty"`
	Result   string   `json:"result"`

	unit string
}

// judge computes every bar. The figure is of the medians.
func judge(samples map[key][]*measure.Sample) []verdictOn {
	var all []verdictOn
	rounds := 0
	for _, runs := range samples {
		rounds = max(rounds, len(runs))
	}
	for _, b := range bars {
		v := verdictOn{Bar: b.name, Wanted: "≥ " + number(b.limit) + b.unit, Result: notMeasured, unit: b.unit}
		if b.most {
			v.Wanted = "≤ " + number(b.limit) + b.unit
		}
		if figure, ok := b.figure(medians(samples)); ok {
			v.Figure, v.Result = &figure, missed
			if figure == b.limit || (figure < b.limit) == b.most {
				v.Result = met
			}
		}
		if figure, ok := b.figure(leaderOnly(medians(samples))); ok {
			v.AtLeader = &figure
		}
		for i := range rounds {
			if figure, ok := b.figure(ofRound(samples, i)); ok {
				v.widen(figure)
			}
		}
		all = append(all, v)
	}
	return all
}

func (v *verdictOn) widen(figure float64) {
	if v.Least == nil {
		v.Least, v.Most = &figure, &figure
		return
	}
	least, most := min(*v.Least, figure), max(*v.Most, figure)
	v.Least, v.Most = &least, &most
}

func medians(samples map[key][]*measure.Sample) lookup {
	return func(k key) *measure.Sample {
		if len(samples[k]) == 0 {
			return nil
		}
		return measure.Median(samples[k])
	}
}

func ofRound(samples map[key][]*measure.Sample, round int) lookup {
	return func(k key) *measure.Sample {
		if round >= len(samples[k]) {
			return nil
		}
		return samples[k][round]
	}
}

// leaderOnly has the leader in the place of all replicas.
func leaderOnly(at lookup) lookup {
	return func(k key) *measure.Sample {
		if k.system == sysConclave {
			k.system = sysLeader
		}
		return at(k)
	}
}

// number shows a figure with as many digits as it deserves.
func number(f float64) string {
	switch {
	case f >= 1000:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}

func (v verdictOn) show(f *float64) string {
	if f == nil {
		return "–"
	}
	return number(*f) + v.unit
}

// spread is from the least to the most of the rounds.
func (v verdictOn) spread() string {
	if v.Least == nil {
		return "–"
	}
	return number(*v.Least) + "–" + number(*v.Most)
}
