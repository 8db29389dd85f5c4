// Command chaos tries to break a cluster of real replicas and checks what it must never break.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/conclave-rtc/conclave/chaos"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, mutants, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	ok, err := false, error(nil)
	if len(mutants) > 0 {
		ok, err = catch(ctx, mutants, c)
	} else {
		ok, err = run(ctx, c)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, c chaos.Config) (ok bool, err error) {
	if c.Binary == "" {
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return false, fmt.Errorf("make the folder of the run: %w", err)
		}
		if c.Binary, err = chaos.UnderTest(ctx, ".", c.Dir); err != nil {
			return false, err
		}
		c.Instrumented = true
	}
	report, err := chaos.Run(ctx, c)
	if report != nil {
		err = errors.Join(err, report.Write(os.Stdout))
	}
	return err == nil && report.OK(), err
}

// catch runs mutants, one after the other, and says which violation caught each.
func catch(ctx context.Context, mutants []chaos.Mutant, c chaos.Config) (ok bool, err error) {
	ok = true
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mutant\tcaught after\tinvariant\trule\tthe bug")
	for _, m := range mutants {
		caught, err := chaos.CatchMutant(ctx, m, ".", c)
		switch {
		case err != nil:
			return false, err
		case caught.By == nil:
			ok = false
			fmt.Fprintf(w, "%s\tNOT CAUGHT in %s\t\t\t%s\n", m.Name, caught.After.Round(time.Second), m.Bug)
		default:
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", m.Name, caught.After.Round(time.Second), caught.By.Invariant, caught.By.Rule, m.Bug)
		}
		fmt.Fprintf(os.Stderr, "%s: %+v\n", m.Name, caught.By)
	}
	return ok, w.Flush()
}

// selectMutants picks mutants by name, or all.
func selectMutants(names string) (chosen []chaos.Mutant, err error) {
	if names == "all" {
		return chaos.Mutants, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(chaos.Mutants, func(m chaos.Mutant) bool { return m.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no mutant %q", name)
		}
		chosen = append(chosen, chaos.Mutants[i])
	}
	return chosen, nil
}

func parse(args []string) (c chaos.Config, mutants []chaos.Mutant, err error) {
	c = chaos.Config{Progress: os.Stderr}
	var faults, names string
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.StringVar(&c.Binary, "binary", "", "the program under test (default: built here, with a wall clock and disks that the run can disturb)")
	f.StringVar(&c.Dir, "dir", filepath.Join(os.TempDir(), fmt.Sprintf("conclave-chaos-%d", os.Getpid())), "folder of disks and histories; kept when something is violated")
	f.BoolVar(&c.Keep, "keep", false, "keep the folder in any case")
	f.IntVar(&c.Replicas, "replicas", 3, "how many replicas, 3 or 5")
	f.StringVar(&c.LogStore, "log-store", "wal", "the replicas' log store")
	f.DurationVar(&c.For, "for", 5*time.Minute, "how long to go on")
	f.DurationVar(&c.Round, "round", 30*time.Second, "how long faults are inflicted between two checks")
	f.Uint64Var(&c.Seed, "seed", 0, "draws the faults and the calls (default: a random one)")
	f.Float64Var(&c.Rate, "rate", 700, "calls a second")
	f.StringVar(&faults, "faults", "", "names of faults, with commas (default: all)")
	f.StringVar(&names, "mutants", "", "instead, build the program with each of these known bugs, and see it caught: names with commas, or all")
	if err := f.Parse(args); err != nil {
		return c, nil, err
	}
	switch {
	case f.NArg() > 0:
		return c, nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.Replicas < 3 || c.Rate <= 0 || c.For <= 0 || c.Round <= 0:
		return c, nil, errors.New("-replicas must be at least 3; -rate, -for and -round above zero")
	}
	if faults != "" {
		c.Faults = strings.Split(faults, ",")
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64N(1_000_000)
	}
	c.Again = fmt.Sprintf("make chaos CHAOS_SEED=%d CHAOS_FOR=%s CHAOS_ARGS='-replicas %d -log-store %s -faults %q'", c.Seed, c.For, c.Replicas, c.LogStore, faults)
	if names != "" {
		mutants, err = selectMutants(names)
	}
	return c, mutants, err
}
