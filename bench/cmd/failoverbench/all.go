package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/conclave-rtc/conclave/bench/product"
)

const (
	conclaveName    = "conclave"
	etcdDefaultName = "etcd-default"
	etcdTunedName   = "etcd-tuned"

	// Conclave's election timeout, and the share of it that etcd's heartbeat is by default: a tenth.
	tunedElection  = 300 * time.Millisecond
	tunedHeartbeat = tunedElection / 10
)

// systemNames are in the order of the report.
var systemNames = []string{conclaveName, etcdDefaultName, etcdTunedName}

// wanted are the systems that are measured.
func (o *options) wanted(binary string) []system {
	all := []system{
		conclaveSystem(binary),
		etcdSystem(etcdDefaultName, "default timers (heartbeat 100 ms, election 1 s)", 0, 0),
		etcdSystem(etcdTunedName, fmt.Sprintf("heartbeat %v, election %v", tunedHeartbeat, tunedElection), tunedHeartbeat, tunedElection),
	}
	return slices.DeleteFunc(all, func(s system) bool { return !slices.Contains(o.systems, s.name) })
}

// count is how many faults of a kind a system is to see.
func (o *options) count(s system, f fault) int {
	if s.name == conclaveName {
		return o.conclave[f.name]
	}
	return o.etcd[f.name]
}

// measureAll measures every system with one fault before it goes on to the next fault, so that what
// the machine does meanwhile falls on all of them. It adds every row to the report as soon as it is
// measured, and the one in which an error came as well.
func measureAll(ctx context.Context, o *options, r *report) error {
	dir, err := os.MkdirTemp(o.dir, "failoverbench-")
	if err != nil {
		return fmt.Errorf("make a folder for the disks: %w", err)
	}
	defer os.RemoveAll(dir)
	binary, err := product.Build(ctx, o.root, dir)
	if err != nil {
		return err
	}
	systems := o.wanted(binary)
	for _, s := range systems {
		r.Systems = append(r.Systems, described{s.name, s.about})
	}
	for _, f := range faults(o.lasts) {
		for _, s := range systems {
			n := o.count(s, f)
			if n == 0 {
				continue
			}
			began := time.Now()
			row, err := measureRow(ctx, s, f, n, filepath.Join(dir, s.name+"-"+f.name), o.pace)
			if len(row.Outcomes) > 0 {
				r.Rows = append(r.Rows, row)
				fmt.Printf("%s, took %v\n", row, time.Since(began).Round(time.Second))
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", s.name, f.name, err)
			}
		}
	}
	return nil
}
