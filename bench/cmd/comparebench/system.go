package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/conclave-rtc/conclave/bench/measure"
)

// The systems as they are named in the report. Conclave is measured twice.
const (
	sysEcho     = "echo"
	sysEtcd     = "etcd"
	sysPostgres = "postgres"
	sysConclave = "conclave"
	sysLeader   = "conclave, at the leader"
)

// The workloads: what a system has to do for the same purpose.
const (
	wEcho   = "echo"
	wReport = "report"
	wStream = "report-stream"
	wGet    = "get-linearizable"
	wStale  = "get-stale"
	wAssign = "assign-new"
)

// kind is one kind of system.
type kind struct {
	name string
	// start starts one whose disks are in dir, which does not exist yet.
	start func(b *bencher, ctx context.Context, dir string) (system, error)
}

// systems are all that can be measured, in the order of the report.
var systems = []kind{
	{sysEcho, startEcho},
	{sysEtcd, startEtcd},
	{sysPostgres, startPostgres},
	{sysConclave, startConclave},
}

func systemNames() []string {
	var names []string
	for _, s := range systems {
		names = append(names, s.name)
	}
	return names
}

func workloadNames() []string { return []string{wReport, wStream, wGet, wStale, wAssign} }

// system is one that runs, on empty disks, and is ready.
type system interface {
	// workloads are what can be measured, in this order.
	workloads() []workload
	// notes are what happened so far and should not have.
	notes(context.Context) ([]string, error)
	stop() error
}

// workload is one kind of call to a system.
type workload struct {
	system, name string
	// measure makes the calls of a plan; run is a name that no other run on this system has.
	measure func(ctx context.Context, p measure.Plan, run string) (*measure.Sample, error)
	// callers replace those of the options, when the workload has its own.
	callers []int
}

// skipped is the error of a system that cannot run on this machine.
type skipped struct{ reason error }

func (s skipped) Error() string { return s.reason.Error() }

// unaryCalls measures calls of which each waits for its answer. Callers never have the same seq,
// and use all of them from 0 about in order.
func unaryCalls(call func(ctx context.Context, callers, caller, n int, run string) error) func(context.Context, measure.Plan, string) (*measure.Sample, error) {
	return func(ctx context.Context, p measure.Plan, run string) (*measure.Sample, error) {
		return measure.Run(ctx, p, func(caller int) measure.Caller {
			return func(ctx context.Context, n int) error { return call(ctx, p.Callers, caller, n, run) }
		})
	}
}

// seq numbers the calls of all callers.
func seq(callers, caller, n int) int { return caller + n*callers }

// wanted says whether a workload is to be measured. Echo is no workload of its own: everything is
// compared to it.
func (o *options) wanted(w workload) bool {
	return w.name == wEcho || slices.Contains(o.workloads, w.name)
}

func meetingID(run string, seq int) string { return fmt.Sprintf("%s-%d", run, seq) }
