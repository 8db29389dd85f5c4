package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// Config describes a run.
type Config struct {
	// Binary is the conclave executable under test.
	Binary string
	// Instrumented says that the binary's wall clock can be moved and its disks be made to fail:
	// UnderTest built it.
	Instrumented bool
	// Dir takes data folders, logs and histories. It is removed after a run without violation,
	// unless Keep is set.
	Dir  string
	Keep bool
	// Replicas is 3 or 5.
	Replicas int
	LogStore string
	// ServeArgs are further flags of the replicas.
	ServeArgs []string
	// For is how long faults are inflicted, in rounds of Round.
	For   time.Duration
	Round time.Duration
	// Seed makes the draws of faults and calls repeatable; timing is not.
	Seed uint64
	// Rate is the calls a second of all clients together.
	Rate float64
	// Faults are inflicted; all that this machine can when empty.
	Faults []string
	// Again is the command that runs the same again, for the report.
	Again string
	// Progress is told what goes on.
	Progress io.Writer
}

const (
	// quiet is how long the cluster is left alone before and after the faults of a round.
	quiet = 2 * time.Second
	// silentFor is how long some handlers say nothing at the end of a round: longer than the
	// staleness period, a sweep and a busy moment.
	silentFor = staleAfter + 3*time.Second
	// catchUpBound is how long replicas may take to agree when nobody calls any more.
	catchUpBound = 15 * time.Second
	// clientsPerReplica make calls beside each other.
	clientsPerReplica = 8
	// floor is the share of the rate that must succeed while nothing is wrong.
	floor = 0.3
	// Open files and goroutines of a replica at rest: far above what it needs, far below what it
	// would have if each call left one.
	maxOpenFiles  = 400
	maxGoroutines = 2000
	sampleEvery   = 300 * time.Millisecond
)

// run is a run under way.
type run struct {
	Config
	system     *System
	start      time.Time
	log        *replay
	report     *Report
	violations *violations
	random     *rand.Rand
	faults     []Fault
}

// Run runs rounds of faults and checks until the time is over or something is violated. An error
// means that the run itself failed; violations are in the report.
func Run(ctx context.Context, c Config) (*Report, error) {
	faults, leftOut, err := selectFaults(c)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of the run: %w", err)
	}
	system, err := newSystem(c)
	if err != nil {
		return nil, err
	}
	r := &run{
		Config: c, system: system, start: time.Now(), log: newReplay(), violations: new(violations), faults: faults,
		random: rand.New(rand.NewPCG(c.Seed, 0)),
		report: &Report{
			Seed: c.Seed, Replicas: c.Replicas, LogStore: c.LogStore, Again: c.Again, LeftOut: leftOut,
			Calls: make(map[Kind]map[Outcome]int), Checks: make(map[int]int),
		},
	}
	err = r.rounds(ctx)
	err = errors.Join(err, system.close())
	r.finish()
	if err != nil {
		return r.report, err
	}
	return r.report, r.leave()
}

func (r *run) rounds(ctx context.Context) error {
	for number := 1; ctx.Err() == nil; number++ {
		left := r.For - time.Since(r.start)
		if left <= 0 && number > 1 {
			return nil
		}
		if err := r.round(ctx, number, min(r.Round, max(left, quiet))); err != nil {
			return fmt.Errorf("round %d: %w", number, err)
		}
		r.report.Rounds = number
		if r.violations.any() {
			return nil
		}
	}
	return context.Cause(ctx)
}

func (r *run) finish() {
	r.report.Took = time.Since(r.start)
	r.report.Violations, r.report.Counts = r.violations.list, r.violations.count
	r.report.Entries = r.log.entries
}

// leave writes the report, and keeps what shows a violation.
func (r *run) leave() error {
	if r.report.OK() && !r.Keep {
		return os.RemoveAll(r.Dir)
	}
	r.report.Artifacts = r.Dir
	return r.report.save(r.Dir)
}

// round starts the replicas, hurts them, heals them, stops them, and checks all that was recorded.
func (r *run) round(ctx context.Context, number int, d time.Duration) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	n := &nemesis{
		system: r.system, history: newHistory(r.start), dir: r.Dir, violations: r.violations,
		random: rand.New(rand.NewPCG(r.random.Uint64(), uint64(number))),
	}
	last, err := r.trouble(ctx, n, number, d)
	if err != nil {
		return err
	}
	for _, replica := range r.system.cluster.Replicas() {
		if err := replica.Kill(); err != nil {
			return err
		}
	}
	err = r.check(n, number, last)
	r.progress("round %d: %d calls, %d faults, %d entries replayed, %d violations\n",
		number, len(n.history.calls), len(n.injections), r.log.entries, len(r.violations.list))
	return err
}

func (r *run) progress(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, "%7s  "+format, append([]any{time.Since(r.start).Round(time.Second)}, args...)...)
	}
}

func (r *run) begin(ctx context.Context) error {
	if err := r.system.startAll(); err != nil {
		return err
	}
	_, err := r.system.leader(ctx)
	return err
}

// atRest is what is known of a cluster that was left alone.
type atRest struct {
	index  uint64
	at     time.Duration
	hosted map[string]map[sim.Key]sim.Hosted
	silent []string
}

// trouble is the part of a round in which the cluster runs.
func (r *run) trouble(ctx context.Context, n *nemesis, number int, d time.Duration) (atRest, error) {
	var rest atRest
	fleet, stopFleet := r.runFleet(ctx, n.history)
	defer stopFleet()
	if err := r.awaitFleet(ctx, n); err != nil {
		return rest, err
	}
	if number == 1 {
		if err := errors.Join(r.durable(ctx, n.history), r.leaderDurable(ctx, n.history)); err != nil {
			return rest, err
		}
	}
	clientCtx, stopClients := context.WithCancel(ctx)
	defer stopClients()
	c := &clients{
		system: r.system, history: n.history, round: number, meetings: newMeetings(number),
		interval: time.Duration(float64(time.Second) * float64(clientsPerReplica*r.Replicas) / r.Rate),
	}
	n.readers = c
	var clientsDone sync.WaitGroup
	clientsDone.Go(func() { c.run(clientCtx, clientsPerReplica, r.random.Uint64()) })
	sampler, stopSampler := context.WithCancel(ctx)
	defer stopSampler()
	clientsDone.Go(func() { r.sample(sampler, n.history) })

	r.leftAlone(ctx, n, "before the faults")
	hurt, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	n.run(hurt, r.faults)
	n.awaitWrites(ctx)
	for _, h := range r.system.handlers[:1] {
		h.silent.Store(true)
		rest.silent = append(rest.silent, h.id)
	}
	silentSince := time.Now()
	r.leftAlone(ctx, n, "after the faults")
	stopClients()
	stopSampler()
	clientsDone.Wait()
	// Orphans go with the next heartbeats, and the silent are marked meanwhile.
	if err := pause(ctx, silentFor-time.Since(silentSince)); err != nil {
		return rest, err
	}
	rest.at = n.history.now()
	rest.hosted = make(map[string]map[sim.Key]sim.Hosted)
	for _, m := range r.system.controllers {
		rest.hosted[m.ID()] = m.Hosted()
	}
	stopFleet()
	fleet.Wait()
	rest.index = r.awaitAgreement(ctx, n)
	r.leaks(n)
	for _, h := range r.system.handlers {
		h.silent.Store(false)
	}
	return rest, ctx.Err()
}

// runFleet has MHs and MCs report until the function it returns is called.
func (r *run) runFleet(ctx context.Context, h *history) (*sync.WaitGroup, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	all := new(sync.WaitGroup)
	all.Go(func() { runHandlers(ctx, r.system.handlers, h) })
	for _, m := range r.system.controllers {
		all.Go(func() { m.Run(ctx) })
	}
	return all, cancel
}

// awaitFleet waits until every region can take a meeting.
func (r *run) awaitFleet(ctx context.Context, n *nemesis) error {
	probe := &client{
		clients: &clients{system: r.system, history: newHistory(r.start)},
		name:    "probe", replica: r.system.keeper().ID, conn: r.system.clientConns[0],
	}
	for _, region := range regions {
		for deadline := time.Now().Add(catchUpBound); ; {
			call := &Call{Client: probe.name, Replica: probe.replica, Kind: KindJoin, Meeting: fmt.Sprintf("probe-%d", n.history.now()), Region: region}
			if probe.make(ctx, call); call.Outcome == Done {
				break
			}
			if time.Now().After(deadline) {
				r.violations.add(10, "the cluster takes meetings", n.history.now(), "none in %s: %s", region, call.Reason)
				return nil
			}
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

// leftAlone counts what succeeds while nothing is done to the cluster.
func (r *run) leftAlone(ctx context.Context, n *nemesis, when string) {
	from := n.history.now()
	_ = pause(ctx, quiet) // the caller looks at ctx
	done := n.history.successes(from, n.history.now())
	r.report.Checks[10]++
	if want := int(floor * r.Rate * quiet.Seconds()); done < want && ctx.Err() == nil {
		r.violations.add(10, "floor "+when, n.history.now(), "%d calls succeeded in %v, at least %d must", done, quiet, want)
	}
}

// sample asks all replicas for their state hash again and again.
func (r *run) sample(ctx context.Context, h *history) {
	for pause(ctx, sampleEvery) == nil {
		for _, replica := range r.system.cluster.Replicas() {
			if !replica.Running() {
				continue
			}
			if status, err := replica.Status(ctx); err == nil {
				h.addSample(sample{replica.ID, status.AppliedIndex, status.StateHash})
			}
		}
	}
}

// awaitAgreement waits until all replicas have applied the same, and returns its index.
func (r *run) awaitAgreement(ctx context.Context, n *nemesis) uint64 {
	deadline := time.Now().Add(catchUpBound)
	for {
		indexes, hashes := make(map[uint64]bool), make(map[string]bool)
		var index uint64
		for _, replica := range r.system.cluster.Replicas() {
			status, err := replica.Status(ctx)
			if err != nil {
				indexes[0] = true
				continue
			}
			index = max(index, status.AppliedIndex)
			indexes[status.AppliedIndex], hashes[status.StateHash] = true, true
			n.history.addSample(sample{replica.ID, status.AppliedIndex, status.StateHash})
		}
		r.report.Checks[9]++
		if len(indexes) == 1 && len(hashes) == 1 {
			return index
		}
		if time.Now().After(deadline) {
			r.violations.add(9, "every replica catches up", n.history.now(), "after %v: indexes %v, hashes %v", catchUpBound, indexes, hashes)
			return index
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			return index
		}
	}
}

// check holds everything recorded in a round to the invariants.
func (r *run) check(n *nemesis, number int, rest atRest) error {
	h := n.history
	for _, call := range h.calls {
		if r.report.Calls[call.Kind] == nil {
			r.report.Calls[call.Kind] = make(map[Outcome]int)
		}
		r.report.Calls[call.Kind][call.Outcome]++
	}
	n.measureGaps()
	r.report.Injections = append(r.report.Injections, n.injections...)
	for _, s := range h.samples {
		r.log.wanted[s.Index] = true
	}
	bad := func(rule, format string, args ...any) {
		invariant := 3
		if rule == "snapshot" || rule == "snapshot and rest" || rule == "replay" {
			invariant = 8
		}
		r.violations.add(invariant, rule, rest.at, format, args...)
	}
	if err := r.log.read(r.system.keeper().DataDir, raftnode.LogStoreKind(r.LogStore), rest.index, bad); err != nil {
		bad("replay", "%v", err)
	}
	if r.log.machine.Index() < rest.index {
		r.violations.add(2, "the log is whole", rest.at, "applied up to %d, the log of %s ends with %d", rest.index, r.system.keeper().ID, r.log.machine.Index())
	}
	c := &checker{calls: h.calls, samples: h.samples, log: r.log, violations: r.violations, report: r.report, dir: r.Dir}
	c.linearizability()
	c.writes()
	c.reads()
	c.hashes()
	c.silence()
	c.silent(rest.silent, rest.at)
	c.accepted(r.system.controllers, r.start)
	c.zombies(rest.hosted, rest.at)
	c.hosting(rest.hosted, rest.at)
	r.report.Checks[3] += len(r.log.created)
	err := r.keep(n, number)
	r.log.forget()
	return err
}

// keep writes the histories of a round that shows a violation.
func (r *run) keep(n *nemesis, number int) error {
	if !r.violations.any() && !r.Keep {
		return nil
	}
	name := func(what string) string { return filepath.Join(r.Dir, fmt.Sprintf("round-%d-%s.jsonl", number, what)) }
	err := errors.Join(writeLines(name("calls"), n.history.calls), writeLines(name("faults"), n.injections), writeLines(name("hashes"), n.history.samples))
	for _, m := range r.system.controllers {
		err = errors.Join(err, writeLines(name(m.ID()), m.Events()))
	}
	return err
}

// keeper is the replica whose log the checks read: its disk is never damaged nor taken away.
func (s *System) keeper() *localcluster.Replica { return s.cluster.Replicas()[0] }
