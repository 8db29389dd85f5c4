package main

import (
	"context"
	"errors"
	"slices"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
	"github.com/conclave-rtc/conclave/bench/postgres"
)

// reporterConns are the connections over which the fleet reports.
const reporterConns = 16

// postgresSystem is one server, and the statements of a controller that keeps its state in it.
type postgresSystem struct {
	server *postgres.Server
	size   nodes.Size
	most   int // connections; 0: one for each caller
	// reporters are the connections of background; both are nil when nobody reports.
	reporters  *postgres.Store
	background *background
}

func startPostgres(b *bencher, ctx context.Context, dir string) (system, error) {
	bin := b.postgres
	if bin == "" {
		var err error
		if bin, err = postgres.Find(); err != nil {
			return nil, skipped{err}
		}
	}
	server, err := postgres.Start(ctx, bin, dir, slices.Max(b.callers)+reporterConns+10)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, skipped{err}
	}
	p := &postgresSystem{server: server, size: b.size(), most: b.postgresConns}
	if err := p.fill(ctx, b.behind == behindAll); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *postgresSystem) fill(ctx context.Context, reporting bool) (err error) {
	if err := postgres.Fill(ctx, p.server.URL, p.size); err != nil || !reporting {
		return err
	}
	if p.reporters, err = postgres.Open(ctx, p.server.URL, reporterConns); err != nil {
		return err
	}
	p.background = p.reportInBackground()
	return nil
}

// reportInBackground has the same fleet report as Conclave's: an update is a report or a heartbeat.
func (p *postgresSystem) reportInBackground() *background {
	return inBackground(postgres.Reason, func(ctx context.Context, f *failures) (*measure.Sample, error) {
		plan := fleetPlan(p.size.MediaHandlers+p.size.Controllers, 0, forever, calls.Timeout, f)
		return measure.Run(ctx, plan, inTurn(func(ctx context.Context, _, _, seq int) error {
			return p.reporters.Report(ctx, p.size.MediaHandler(seq%p.size.MediaHandlers).ID, seq)
		}))
	})
}

func (p *postgresSystem) workloads() []workload {
	return []workload{
		{system: sysPostgres, name: wReport, measure: p.calls(func(ctx context.Context, store *postgres.Store, _ string, seq int) error {
			return store.Report(ctx, p.size.MediaHandler(seq%p.size.MediaHandlers).ID, seq)
		})},
		{system: sysPostgres, name: wAssign, measure: p.calls(func(ctx context.Context, store *postgres.Store, run string, seq int) error {
			return store.Assign(ctx, meetingID(run, seq), p.size.Region(seq))
		})},
	}
}

// calls measures calls with connections of their own, which are open before.
func (p *postgresSystem) calls(call func(ctx context.Context, store *postgres.Store, run string, seq int) error) func(context.Context, measure.Plan, string) (*measure.Sample, error) {
	return func(ctx context.Context, plan measure.Plan, run string) (*measure.Sample, error) {
		connections := plan.Callers
		if p.most > 0 {
			connections = min(connections, p.most)
		}
		store, err := postgres.Open(ctx, p.server.URL, connections)
		if err != nil {
			return nil, err
		}
		defer store.Close()
		plan.Reason = postgres.Reason
		return unaryCalls(func(ctx context.Context, callers, caller, n int, run string) error {
			return call(ctx, store, run, seq(callers, caller, n))
		})(ctx, plan, run)
	}
}

func (p *postgresSystem) notes(context.Context) ([]string, error) { return p.background.notes(), nil }

func (p *postgresSystem) stop() error {
	p.background.stop()
	if p.reporters != nil {
		p.reporters.Close()
	}
	p.server.Stop()
	return nil
}
