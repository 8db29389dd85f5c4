package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/flags"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

// options are what the command line says.
type options struct {
	scenario                    string
	root, dir, results          string
	systems, workloads          []string
	callers                     []int
	rounds, conns               int
	time, warmUp                time.Duration
	rate                        float64
	postgres                    string
	postgresConns               int
	reportBy                    string // unary or stream
	behind                      string // behindAll, behindConclave or behindNone
	mediaHandlers               int
	joins                       float64
	fleetTime                   time.Duration
	meetings, loading, replicas int
}

// How load reports are sent.
const (
	unary  = "unary"
	stream = "stream"
)

func parse(args []string, help io.Writer) (*options, error) {
	o := &options{scenario: "compare", callers: []int{1, 64, 512}, systems: systemNames(), workloads: workloadNames(), reportBy: unary, behind: behindNone, replicas: 3}
	f := flag.NewFlagSet("comparebench", flag.ContinueOnError)
	f.SetOutput(help)
	f.Func("scenario", "compare (default), fleet, overload or scale", one(&o.scenario, "compare", "fleet", "overload", "scale"))
	f.StringVar(&o.root, "root", "..", "folder of the product's module, which is built")
	f.StringVar(&o.dir, "dir", os.TempDir(), "where the disks go: a folder on a real disk")
	f.StringVar(&o.results, "out", "results", "folder of the results")
	f.Func("systems", "compare: systems (default echo,etcd,postgres,conclave)", flags.List(&o.systems, o.systems...))
	f.Func("only", "compare: workloads beside echo (default report,report-stream,get-linearizable,get-stale,assign-new)", flags.List(&o.workloads, o.workloads...))
	f.Func("callers", "compare: calls under way at once (default 1,64,512)", flags.Numbers(&o.callers))
	f.IntVar(&o.rounds, "n", 5, "compare: rounds; the median is reported")
	f.IntVar(&o.conns, "conns", 8, "gRPC connections to each of three replicas")
	f.DurationVar(&o.time, "time", 5*time.Second, "how long each measurement takes")
	f.DurationVar(&o.warmUp, "warm-up", time.Second, "how long each is warmed up before")
	f.Float64Var(&o.rate, "rate", 0, "compare: open loop of so many calls a second, timed from when they were due (default: closed loop)")
	f.StringVar(&o.postgres, "postgres", "", "folder of PostgreSQL's programs (default: found)")
	f.IntVar(&o.postgresConns, "postgres-conns", 0, "most connections to PostgreSQL (default: one for each caller)")
	f.Func("reports", "how the fleet around Conclave reports: unary (default) or stream", one(&o.reportBy, unary, stream))
	f.Func("background", "compare: which systems have a fleet that reports all the while: none (default; then Conclave's staleness is an hour), conclave or all (but for echo)",
		one(&o.behind, behindAll, behindConclave, behindNone))
	f.IntVar(&o.mediaHandlers, "mhs", 0, "media handlers (default: compare and overload 10000, fleet and scale 100000)")
	f.Float64Var(&o.joins, "joins", 300, "fleet: joins a second")
	f.DurationVar(&o.fleetTime, "for", 2*time.Minute, "fleet: for how long")
	f.IntVar(&o.meetings, "meetings", 1_000_000, "scale: live meetings")
	f.IntVar(&o.loading, "loading", 512, "scale: callers that load them")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return o, o.check()
}

func (o *options) check() error {
	switch {
	case o.rounds < 1 || o.conns < 1 || o.time <= 0 || o.fleetTime <= 0 || o.joins <= 0 || o.meetings < 1 || o.loading < 1:
		return errors.New("-n, -conns, -time, -for, -joins, -meetings and -loading must be above zero")
	case o.warmUp < 0 || o.rate < 0 || o.postgresConns < 0 || o.mediaHandlers < 0:
		return errors.New("-warm-up, -rate, -postgres-conns and -mhs must not be below zero")
	}
	return nil
}

// one reads one known name.
func one(into *string, known ...string) func(string) error {
	var names []string
	read := flags.List(&names, known...)
	return func(text string) error {
		if err := read(text); err != nil {
			return err
		}
		if len(names) != 1 {
			return fmt.Errorf("%q is more than one", text)
		}
		*into = names[0]
		return nil
	}
}

// size is how large a fleet is around Conclave, and in the tables of PostgreSQL.
func (o *options) size() nodes.Size {
	size := nodes.Size{Regions: 10, MediaHandlers: 10_000, Controllers: 1000}
	if o.scenario == "fleet" || o.scenario == "scale" {
		size.MediaHandlers = 100_000
	}
	if o.mediaHandlers > 0 {
		size.MediaHandlers = o.mediaHandlers
	}
	return size
}

// plan is how one workload is measured.
func (o *options) plan(callers int) measure.Plan {
	return measure.Plan{
		Callers: callers, WarmUp: o.warmUp, Time: o.time, Rate: o.rate,
		CallTimeout: calls.Timeout, Reason: calls.Reason,
	}
}
