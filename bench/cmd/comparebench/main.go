package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/conclave-rtc/conclave/bench/echo"
	"github.com/conclave-rtc/conclave/bench/etcdcluster"
	"github.com/conclave-rtc/conclave/bench/figures"
	"github.com/conclave-rtc/conclave/bench/machine"
	"github.com/conclave-rtc/conclave/bench/product"
)

// etcdArgument makes this program a member of an etcd cluster. It is not for people.
const etcdArgument = "etcd-member"

// gcPercent makes the load's garbage be collected seldom: what that takes is taken from the
// systems beside it, and all alike.
const gcPercent = 400

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case echo.Argument:
			exit(echo.Serve(os.Stdin, os.Stdout))
		case etcdArgument:
			exit(etcdcluster.Serve(os.Args[2:]))
		}
	}
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "comparebench:", err)
		os.Exit(2)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = bench(ctx, o, os.Stdout)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "comparebench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// report is what a scenario ends with.
type report interface {
	// markdown is the report for people; plot is the name of the chart beside it.
	markdown(plot string) string
	// name is that of the files, without the ending.
	name() string
	// chart is nil when there is nothing to draw.
	chart() []byte
	// verdict is an error when too many calls failed. A bar that is missed is none.
	verdict() error
}

// bench measures, reports and judges.
func bench(ctx context.Context, o *options, out io.Writer) (err error) {
	facts, err := machine.Read(o.dir)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(o.dir, "comparebench-")
	if err != nil {
		return fmt.Errorf("make a folder for the disks: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	// PostgreSQL may run as another user, who has to get in.
	if err := os.Chmod(work, 0o755); err != nil {
		return fmt.Errorf("open the folder of the disks: %w", err)
	}
	b := &bencher{options: o, out: out, facts: facts, work: work, commit: product.Commit(o.root)}
	r, err := scenarios[o.scenario](b, ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(o.results, r.name())
	if err := figures.Write(path, r.markdown(r.name()+".svg"), r); err != nil {
		return err
	}
	if svg := r.chart(); svg != nil {
		if err := os.WriteFile(path+".svg", svg, 0o644); err != nil {
			return fmt.Errorf("write the chart: %w", err)
		}
	}
	fmt.Fprintf(out, "\n%s\nwritten to %s.*\n", r.markdown(r.name()+".svg"), path)
	return r.verdict()
}

// bencher is one run of this program.
type bencher struct {
	*options
	out    io.Writer
	facts  *machine.Facts
	commit string // when it began
	work   string // folder of all disks
	binary string // of Conclave, once it is built
}

var scenarios = map[string]func(*bencher, context.Context) (report, error){
	"compare":  (*bencher).runCompare,
	"fleet":    (*bencher).runFleet,
	"overload": (*bencher).runOverload,
	"scale":    (*bencher).runScale,
}
