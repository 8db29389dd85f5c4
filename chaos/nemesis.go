package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Fault is one way to hurt a cluster.
type Fault struct {
	Name string
	// Group is what it hurts. Faults of one group are not combined.
	Group string
	// Weight is how often it is drawn, compared with others.
	Weight int
	// inflict hurts the cluster and undoes it again. What cannot be undone, because the cluster
	// does not come back, is left to the checks after it.
	inflict func(ctx context.Context, n *nemesis) error
	// needs says why the fault cannot be inflicted on this machine; nil when it always can.
	needs func(Config) error
}

// Injection is one fault that was inflicted. Times are since the run began.
type Injection struct {
	Fault string        `json:"fault"`
	On    string        `json:"on,omitempty"`
	From  time.Duration `json:"from"`
	Until time.Duration `json:"until"`
	// Lost is when the cluster was hurt, if that made a leader fail; zero otherwise.
	Lost time.Duration `json:"lost,omitempty"`
	// Gap is how long no write was acknowledged through the replicas that were not hurt.
	Gap time.Duration `json:"gap,omitempty"`
}

// nemesis inflicts faults on a system, one after the other and sometimes two at once.
type nemesis struct {
	system  *System
	history *history
	readers *clients
	dir     string // for copies of data folders

	mu         sync.Mutex
	random     *rand.Rand
	injections []*Injection
	violations *violations
}

// injectionKey carries the injection in a fault's context.
type injectionKey struct{}

// hit notes on whom the fault of this context was inflicted.
func (n *nemesis) hit(ctx context.Context, on string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, ok := ctx.Value(injectionKey{}).(*Injection); ok {
		i.On = on
	}
}

// leaderLost notes when the leader was lost to the fault of this context.
func (n *nemesis) leaderLost(ctx context.Context, leader string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i, ok := ctx.Value(injectionKey{}).(*Injection); ok {
		i.On, i.Lost = leader, n.history.now()
	}
}

func (n *nemesis) shuffle(count int, swap func(i, j int)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.random.Shuffle(count, swap)
}

func (n *nemesis) intN(count int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.random.IntN(count)
}

// drawn is a source of its own, drawn from this one.
func (n *nemesis) drawn() *rand.Rand {
	n.mu.Lock()
	defer n.mu.Unlock()
	return rand.New(rand.NewPCG(n.random.Uint64(), 0))
}

// between draws a time.
func (n *nemesis) between(low, high time.Duration) time.Duration {
	return low + time.Duration(n.intN(int(high-low)))
}

// combined: one fault in so many gets another one for company.
const combined = 4

// run inflicts faults until ctx ends, and heals everything. Faults of the fleet go on beside those
// of the replicas: they take as long as nodes may be silent.
func (n *nemesis) run(ctx context.Context, faults []Fault) {
	fleet, replicas := &plan{nemesis: n}, &plan{nemesis: n}
	for _, f := range faults {
		if f.Group == groupFleet {
			fleet.faults = append(fleet.faults, f)
		} else {
			replicas.faults = append(replicas.faults, f)
		}
	}
	var both sync.WaitGroup
	both.Go(func() { n.hurtFleet(ctx, fleet) })
	both.Go(func() { n.hurtReplicas(ctx, replicas) })
	both.Wait()
	n.heal()
	n.healFleet()
}

func (n *nemesis) hurtFleet(ctx context.Context, p *plan) {
	for ctx.Err() == nil && len(p.faults) > 0 {
		n.inflict(ctx, p.next())
		_ = n.hold(ctx, 100*time.Millisecond, 500*time.Millisecond) // the loop looks at ctx
	}
}

func (n *nemesis) hurtReplicas(ctx context.Context, p *plan) {
	for ctx.Err() == nil && len(p.faults) > 0 {
		first := p.next()
		var both sync.WaitGroup
		both.Go(func() { n.inflict(ctx, first) })
		if first.Group != groupDisk && n.intN(combined) == 0 {
			if second := p.next(); second.Group != first.Group && second.Group != groupDisk {
				both.Go(func() { n.inflict(ctx, second) })
			} else {
				p.back(second)
			}
		}
		both.Wait()
		n.heal()
		if ctx.Err() == nil {
			n.awaitWrites(ctx)
		}
	}
}

func (n *nemesis) inflict(ctx context.Context, f Fault) {
	i := &Injection{Fault: f.Name, From: n.history.now()}
	err := f.inflict(context.WithValue(ctx, injectionKey{}, i), n)
	if f.Group == groupNetwork {
		n.system.network.HealAll() // another fault beside it may wait for a leader
	}
	n.mu.Lock()
	i.Until = n.history.now()
	n.injections = append(n.injections, i)
	n.mu.Unlock()
	if err != nil && ctx.Err() == nil { // what the end of the round cut short is no finding
		n.violations.add(0, "fault "+f.Name, n.history.now(), "%v", err)
	}
}

// heal undoes what faults may have left: every direction open, every replica running.
func (n *nemesis) heal() {
	n.system.network.HealAll()
	for _, r := range n.system.cluster.Replicas() {
		if r.Running() {
			_ = r.Signal(contSignal) // it may have ended by now
		}
	}
	if err := n.system.startAll(); err != nil {
		n.violations.add(9, "replicas start", n.history.now(), "%v", err)
	}
}

// healFleet brings every node back.
func (n *nemesis) healFleet() {
	for _, m := range n.system.controllers {
		m.SetScript(nil)
		if m.Down() {
			if err := m.Restart(false); err != nil {
				n.violations.add(0, "harness", n.history.now(), "%v", err)
			}
		}
	}
	for _, h := range n.system.handlers {
		h.silent.Store(false)
	}
}

// resumeBound is how soon after healing writes must be acknowledged again, by a busy machine.
const resumeBound = 10 * time.Second

// awaitWrites waits until a write that was sent after now is acknowledged.
func (n *nemesis) awaitWrites(ctx context.Context) {
	healed := n.history.now()
	anyone := func(string) bool { return true }
	for {
		if _, ok := n.history.firstSuccess(healed, anyone); ok {
			return
		}
		if n.history.now()-healed > resumeBound {
			n.violations.add(9, "writes resume after healing", n.history.now(), "none was acknowledged in %v", resumeBound)
			return
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			return
		}
	}
}

// hold lets a fault last.
func (n *nemesis) hold(ctx context.Context, low, high time.Duration) error {
	return pause(ctx, n.between(low, high))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// plan draws faults in a random order, each as often as its weight says before any comes again.
type plan struct {
	nemesis *nemesis
	faults  []Fault
	queue   []Fault
}

func (p *plan) next() Fault {
	if len(p.queue) == 0 {
		for _, f := range p.faults {
			for range f.Weight {
				p.queue = append(p.queue, f)
			}
		}
		p.nemesis.shuffle(len(p.queue), func(i, j int) { p.queue[i], p.queue[j] = p.queue[j], p.queue[i] })
	}
	f := p.queue[0]
	p.queue = p.queue[1:]
	return f
}

func (p *plan) back(f Fault) { p.queue = append(p.queue, f) }

// selectFaults picks faults by name; all that this machine can inflict when none is named. It also
// says what was left out, and why.
func selectFaults(c Config) (chosen []Fault, leftOut []string, err error) {
	known := make(map[string]Fault)
	for _, f := range allFaults() {
		known[f.Name] = f
		if len(c.Faults) > 0 {
			continue
		}
		if f.needs != nil {
			if why := f.needs(c); why != nil {
				leftOut = append(leftOut, fmt.Sprintf("%s: %v", f.Name, why))
				continue
			}
		}
		chosen = append(chosen, f)
	}
	for _, name := range c.Faults {
		f, ok := known[name]
		if !ok {
			return nil, nil, fmt.Errorf("there is no fault %q", name)
		}
		if f.needs != nil {
			if why := f.needs(c); why != nil {
				return nil, nil, fmt.Errorf("fault %s: %w", name, why)
			}
		}
		chosen = append(chosen, f)
	}
	return chosen, leftOut, nil
}

func needInstruments(c Config) error {
	if !c.Instrumented {
		return errors.New("this binary was not built for it")
	}
	return nil
}

func allFaults() []Fault {
	var all []Fault
	for _, group := range [][]Fault{processFaults, networkFaults, diskFaults, storeFaults, clockFaults, fleetFaults} {
		all = append(all, group...)
	}
	return all
}
