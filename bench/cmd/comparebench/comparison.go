package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/bench/barchart"
	"github.com/conclave-rtc/conclave/bench/figures"
	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
	"github.com/conclave-rtc/conclave/bench/postgres"
)

// heading is what every report begins with.
type heading struct {
	Date    time.Time      `json:"date"`
	Commit  string         `json:"commit"`
	Machine *machine.Facts `json:"machine"`
}

func (b *bencher) heading() heading {
	return heading{Date: time.Now(), Commit: b.commit, Machine: b.facts}
}

// comparison is the report of all systems.
type comparison struct {
	heading
	Settings settings          `json:"settings"`
	Skipped  map[string]string `json:"skipped,omitempty"`
	Notes    []string          `json:"notes,omitempty"`
	Bars     []verdictOn       `json:"bars,omitempty"`
	Rows     []row             `json:"rows"`
}

type settings struct {
	Rounds            int           `json:"rounds"`
	Time              time.Duration `json:"time_ns"`
	WarmUp            time.Duration `json:"warm_up_ns"`
	Replicas          int           `json:"replicas"`
	Connections       int           `json:"connections"`
	Fleet             nodes.Size    `json:"fleet"`
	ReportBy          string        `json:"fleet_reports_by"` // unary or stream, to Conclave
	Background        string        `json:"fleet_reports_to"` // all, conclave or none
	OpenLoopPerSecond float64       `json:"open_loop_per_second,omitempty"`
	Postgres          string        `json:"postgres,omitempty"`
	PostgresConns     int           `json:"postgres_connections,omitempty"` // 0: one for each caller
}

type row struct {
	System   string `json:"system"`
	Workload string `json:"workload"`
	Callers  int    `json:"callers"`
	figures.Series
}

func newComparison(b *bencher, res *results) *comparison {
	c := &comparison{
		heading: b.heading(), Skipped: res.skipped, Notes: res.notes,
		Settings: settings{
			Rounds: b.rounds, Time: b.time, WarmUp: b.warmUp, Replicas: b.replicas, Connections: b.replicas * b.conns,
			Fleet: b.size(), ReportBy: b.reportBy, Background: b.behind, OpenLoopPerSecond: b.rate, Postgres: b.postgresVersion(), PostgresConns: b.postgresConns,
		},
	}
	if b.rate == 0 { // else the rates say nothing
		c.Bars = judge(res.samples)
	}
	for _, k := range slices.SortedFunc(maps.Keys(res.samples), rowOrder) {
		c.Rows = append(c.Rows, row{k.system, k.workload, k.callers, figures.Of(res.samples[k])})
	}
	return c
}

// postgresVersion is empty where it is not installed: the report says so elsewhere.
func (b *bencher) postgresVersion() string {
	bin := b.postgres
	if bin == "" {
		bin, _ = postgres.Find()
	}
	version, _ := postgres.Version(bin)
	return version
}

func (c *comparison) name() string {
	name := fmt.Sprintf("compare-%s-%s", c.Date.Format(time.DateOnly), c.Commit)
	if c.Settings.Background != behindNone {
		name += "-background-" + c.Settings.Background
	}
	if c.Settings.OpenLoopPerSecond > 0 {
		name += fmt.Sprintf("-rate-%.0f", c.Settings.OpenLoopPerSecond)
	}
	return name
}

func (c *comparison) markdown(plot string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conclave compared, %s, commit %s\n\n%s\n\n%s\n\n", c.Date.Format(time.DateOnly), c.Commit, c.Machine, c.Settings)
	for _, name := range slices.Sorted(maps.Keys(c.Skipped)) {
		fmt.Fprintf(&b, "**%s was skipped**: %s.\n\n", name, c.Skipped[name])
	}
	for _, note := range c.Notes {
		fmt.Fprintf(&b, "**Not as it should be**: %s.\n\n", note)
	}
	if c.Bars != nil {
		b.WriteString(c.barTable())
	}
	fmt.Fprintf(&b, "![calls a second](%s)\n\n", plot)
	b.WriteString("| workload | callers | system | calls/s | slowest–fastest run | p50 ms | p90 | p95 | p99 | max | CPU µs a call, system + load | failed |\n")
	b.WriteString("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, r := range c.Rows {
		l := r.Median.Latency
		fmt.Fprintf(&b, "| %s | %d | %s | %.0f | %s | %s | %s | %s | %s | %s | %s | %s |\n", r.Workload, r.Callers, r.System, r.Median.PerSecond, r.Spread(),
			figures.Millis(l.P50), figures.Millis(l.P90), figures.Millis(l.P95), figures.Millis(l.P99), figures.Millis(l.Max), showCPU(r.Median.CPU), r.Failures())
	}
	return b.String()
}

func showCPU(cpu *measure.CPU) string {
	if cpu == nil {
		return "–"
	}
	return fmt.Sprintf("%d + %d", cpu.System.Microseconds(), cpu.Load.Microseconds())
}

func (c *comparison) barTable() string {
	var b strings.Builder
	b.WriteString("| bar | wanted | figure | of each round | at the leader | |\n|---|--:|--:|--:|--:|---|\n")
	for _, v := range c.Bars {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", v.Bar, v.Wanted, v.show(v.Figure), v.spread(), v.show(v.AtLeader), v.Result)
	}
	return b.String() + "\n"
}

// String says how it was measured.
func (s settings) String() string {
	loop := "Closed loop."
	if s.OpenLoopPerSecond > 0 {
		loop = fmt.Sprintf("Open loop of %.0f calls a second, timed from when each was due; callers is the most that may be under way.", s.OpenLoopPerSecond)
	}
	connections := "one connection for each caller"
	if s.PostgresConns > 0 {
		connections = fmt.Sprintf("at most %d connections", s.PostgresConns)
	}
	return fmt.Sprintf(`Everything on this one machine, the load included. %s Median of %d rounds of %v after %v of warm-up. A round is each system once, on empty disks and alone; the rounds begin with another system each time. %s

- **echo**: one gRPC server that answers a load report and does nothing, %d connections.
- **etcd**: %d members, %d connections over all of them, no client library. report is a put of %d B over %d keys, get-linearizable a range of one of them, assign-new a transaction that puts %d B if the key has no create revision.
- **postgres**: %s, one server with its own settings (fsync and synchronous_commit on), pgx with %s. report is an update by key; assign-new looks for the assignment, for five media handlers and for five controllers of the region by load, and inserts on conflict, each statement by itself, and asks no controller.
- **conclave**: %d replicas with default flags, %d connections over all of them or all to the leader; %d meetings are live from the beginning. assign-new asks a controller over gRPC before it commits. report-stream has %d streams for each replica with at most %d reports unacknowledged, %d a message.`,
		loop, s.Rounds, s.Time, s.WarmUp, s.background(), s.Connections,
		s.Replicas, s.Connections, reportBytes, etcdKeys, assignmentBytes,
		cmp.Or(s.Postgres, "not installed"), connections,
		s.Replicas, s.Connections, existingMeetings, streamsPerReplica, streamWindow, streamBatch)
}

// background says who reports while something else is measured.
func (s settings) background() string {
	fleet := fmt.Sprintf("The fleet is %v.", s.Fleet)
	switch s.Background {
	case behindAll:
		return fleet + fmt.Sprintf(" All but echo have it reporting while they are measured, every node each %v: to Conclave each media handler %s, to etcd and PostgreSQL by a put and an update.", reportInterval, reportsBy(s.ReportBy))
	case behindConclave:
		return fleet + fmt.Sprintf(" Conclave alone has it reporting while it is measured, every node each %v, each media handler %s.", reportInterval, reportsBy(s.ReportBy))
	}
	return fleet + " Its media handlers reported once and are silent while anything is measured, for which Conclave's staleness is an hour; its controllers send heartbeats."
}

// chart draws the calls a second, a panel for each number of callers.
func (c *comparison) chart() []byte {
	panels := make(map[string]*barchart.Panel)
	for _, r := range c.Rows {
		title := fmt.Sprintf("callers: %d", r.Callers)
		if r.Workload == wStream {
			title = fmt.Sprintf("streams: %d", r.Callers)
		}
		p := panels[title]
		if p == nil {
			p = &barchart.Panel{Title: title}
			panels[title] = p
		}
		last := len(p.Groups) - 1
		if last < 0 || p.Groups[last].Title != r.Workload {
			p.Groups = append(p.Groups, barchart.Group{Title: r.Workload})
			last++
		}
		p.Groups[last].Bars = append(p.Groups[last].Bars, barchart.Bar{Label: r.System, Value: r.Median.PerSecond})
	}
	all := barchart.Chart{Title: fmt.Sprintf("Calls a second, %s, commit %s", c.Date.Format(time.DateOnly), c.Commit)}
	for _, title := range slices.SortedFunc(maps.Keys(panels), shorterFirst) {
		all.Panels = append(all.Panels, *panels[title])
	}
	return all.SVG()
}

// shorterFirst sorts titles that end in a number by their words, then by the number.
func shorterFirst(a, b string) int {
	word := func(title string) string { return strings.TrimRight(title, "0123456789") }
	return cmp.Or(strings.Compare(word(a), word(b)), cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// verdict names the rows in which too many calls failed.
func (c *comparison) verdict() error {
	var errs []error
	for _, r := range c.Rows {
		errs = append(errs, r.Check(fmt.Sprintf("%s, %d callers, %s", r.Workload, r.Callers, r.System)))
	}
	return errors.Join(errs...)
}
