package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/bench/etcdcluster"
	"github.com/conclave-rtc/conclave/bench/flags"
	"github.com/conclave-rtc/conclave/bench/machine"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == memberArgument {
		fatal(etcdcluster.Serve(os.Args[2:]))
	}
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "failoverbench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fatal(err)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "failoverbench:", err)
	os.Exit(1)
}

// bench measures, reports and judges. What was measured before an error is reported too.
func bench(ctx context.Context, o *options) error {
	facts, err := machine.Read(o.dir)
	if err != nil {
		return err
	}
	r := newReport(o, facts)
	failed := measureAll(ctx, o, r)
	if len(r.Rows) == 0 {
		return failed
	}
	if failed != nil {
		r.Incomplete = failed.Error()
	}
	fmt.Print("\n", r.table())
	path, err := r.write(o.out)
	if err != nil {
		return errors.Join(failed, err)
	}
	fmt.Printf("\nwritten to %s.md and .json\n", path)
	return errors.Join(failed, r.verdict())
}

// counts are how many faults of each kind, by the name of the fault.
type counts map[string]int

// options are what the command line says.
type options struct {
	root, dir, out string
	systems        []string
	conclave, etcd counts
	pace, lasts    time.Duration
}

func parse(args []string) (*options, error) {
	o := &options{systems: slices.Clone(systemNames)}
	var kills, stops, partitions, etcdKills, etcdStops, etcdPartitions int
	f := flag.NewFlagSet("failoverbench", flag.ContinueOnError)
	f.StringVar(&o.root, "root", "..", "folder of the product's module, which is built")
	f.StringVar(&o.dir, "dir", os.TempDir(), "where the disks go: a folder on a real disk")
	f.StringVar(&o.out, "out", "results", "folder of the results")
	f.Func("only", "systems (default all: "+strings.Join(systemNames, ",")+")", flags.List(&o.systems, systemNames...))
	f.IntVar(&kills, "kills", 200, "how often Conclave's leader is killed with SIGKILL")
	f.IntVar(&stops, "stops", 60, "how often it is stopped with SIGSTOP")
	f.IntVar(&partitions, "partitions", 60, "how often it is cut off from its peers")
	f.IntVar(&etcdKills, "etcd-kills", 60, "how often etcd's leader is killed, with each of its timers")
	f.IntVar(&etcdStops, "etcd-stops", 30, "how often it is stopped")
	f.IntVar(&etcdPartitions, "etcd-partitions", 30, "how often it is cut off")
	f.DurationVar(&o.pace, "pace", 5*time.Millisecond, "one write is sent in this time through each surviving replica")
	f.DurationVar(&o.lasts, "lasts", 3*time.Second, "how long a stop and a partition last")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	for _, n := range []int{kills, stops, partitions, etcdKills, etcdStops, etcdPartitions} {
		if n < 0 {
			return nil, errors.New("there cannot be fewer than 0 faults")
		}
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.pace <= 0 || o.pace > calm/calmWrites/2:
		return nil, fmt.Errorf("-pace must be above zero and at most %v", calm/calmWrites/2)
	case o.lasts < time.Second || o.lasts > recoveryPatience/2:
		return nil, fmt.Errorf("-lasts must be from %v to %v", time.Second, recoveryPatience/2)
	}
	o.conclave = counts{sigkill: kills, sigstop: stops, partition: partitions}
	o.etcd = counts{sigkill: etcdKills, sigstop: etcdStops, partition: etcdPartitions}
	return o, nil
}
