package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/conclave-rtc/conclave/bench/echo"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/product"
)

const (
	// staleAfter keeps media handlers alive that report only while reports are measured.
	staleAfter   = time.Hour
	startTimeout = 30 * time.Second
)

// key names a row of the report.
type key struct {
	store    string // empty for the echo server
	workload string
	callers  int
}

// results are all samples of all rounds.
type results struct {
	samples map[key][]*measure.Sample
	// elections says in which rounds the leader changed: their samples are not of a calm cluster.
	elections []string
}

// measureAll runs all rounds. A round is one store: a fresh cluster with a fresh fleet on empty
// disks, and every workload on it once. So no round sees what another left behind, and what the
// machine does meanwhile falls on the stores alike.
func measureAll(ctx context.Context, o *options) (*results, error) {
	dir, err := os.MkdirTemp(o.dir, "loadbench-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the replicas: %w", err)
	}
	defer os.RemoveAll(dir)
	binary, err := product.Build(ctx, o.root, dir)
	if err != nil {
		return nil, err
	}
	e, err := echo.Start()
	if err != nil {
		return nil, err
	}
	defer e.Stop()
	res := &results{samples: make(map[key][]*measure.Sample)}
	for i := range o.rounds {
		for _, store := range order(o.stores, i) {
			r := &round{options: o, results: res, echo: e, store: store, number: i + 1,
				dir: filepath.Join(dir, fmt.Sprintf("%s-%d", store, i+1)), binary: binary}
			if err := r.run(ctx); err != nil {
				return nil, fmt.Errorf("round %d with %s: %w", i+1, store, err)
			}
		}
	}
	return res, nil
}

// order turns the stores round every other time, so that none is always first.
func order(stores []string, round int) []string {
	ordered := make([]string, len(stores))
	for i, store := range stores {
		if round%2 == 1 {
			i = len(stores) - 1 - i
		}
		ordered[i] = store
	}
	return ordered
}
