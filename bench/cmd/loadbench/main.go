package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/echo"
	"github.com/conclave-rtc/conclave/bench/flags"
	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/measure"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == echo.Argument {
		if err := echo.Serve(os.Stdin, os.Stdout); err != nil {
			fatal(err)
		}
		return
	}
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "loadbench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "loadbench:", err)
	os.Exit(1)
}

// bench measures, reports and judges.
func bench(ctx context.Context, o *options) error {
	facts, err := machine.Read(o.dir)
	if err != nil {
		return err
	}
	results, err := measureAll(ctx, o)
	if err != nil {
		return err
	}
	r := newReport(o, facts, results)
	fmt.Print("\n", r.table())
	path, err := r.write(o.out)
	if err != nil {
		return err
	}
	fmt.Printf("\nwritten to %s.md and .json\n", path)
	return r.verdict()
}

// options are what the command line says.
type options struct {
	root, dir, out, profiles string
	stores                   []string
	workloads                []string
	callers                  []int
	rounds                   int
	conns                    int
	time, warmUp             time.Duration
	rate                     float64
}

func parse(args []string) (*options, error) {
	o := &options{callers: []int{1, 64, 512}, stores: []string{"bolt", "wal"}, workloads: workloadNames()}
	f := flag.NewFlagSet("loadbench", flag.ContinueOnError)
	f.StringVar(&o.root, "root", "..", "folder of the product's module, which is built")
	f.StringVar(&o.dir, "dir", os.TempDir(), "where the replicas' disks go: a folder on a real disk")
	f.StringVar(&o.out, "out", "results", "folder of the results")
	f.StringVar(&o.profiles, "profiles", "", "also write CPU profiles of the leader into this folder; they cost a little")
	f.Func("stores", "log stores (default bolt,wal)", flags.List(&o.stores, "bolt", "wal"))
	f.Func("only", "workloads (default all: "+strings.Join(o.workloads, ",")+")", flags.List(&o.workloads, o.workloads...))
	f.Func("callers", "calls under way at once (default 1,64,512)", flags.Numbers(&o.callers))
	f.IntVar(&o.rounds, "n", 3, "rounds for each store; the median is reported")
	f.IntVar(&o.conns, "conns", 8, "gRPC connections to each replica")
	f.DurationVar(&o.time, "time", 5*time.Second, "how long each measurement takes")
	f.DurationVar(&o.warmUp, "warm-up", time.Second, "how long each is warmed up before")
	f.Float64Var(&o.rate, "rate", 0, "open loop: so many calls a second, timed from when they were due (default: closed loop)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1 || o.conns < 1 || o.time <= 0 || o.warmUp < 0 || o.rate < 0:
		return nil, errors.New("-n, -conns and -time must be above zero, -warm-up and -rate not below")
	}
	return o, nil
}

// plan is how one workload is measured.
func (o *options) plan(callers int) measure.Plan {
	return measure.Plan{
		Callers: callers, WarmUp: o.warmUp, Time: o.time, Rate: o.rate,
		CallTimeout: calls.Timeout, Reason: calls.Reason,
	}
}
