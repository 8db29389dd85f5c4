package assign

import (
	"context"
	"sync"
	"time"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// desk is what an Assigner knows in one leadership and in no other.
type desk struct {
	*Assigner
	node    Log
	lead    raftnode.Leadership
	silence *silence

	mu      sync.Mutex
	counter uint64
	flights map[fsm.MeetingKey]*flight
	// placing are tokens that a controller may know and whose fate is not decided.
	placing map[uint64]struct{}
}

// flight is the one placement of a meeting that is under way; joins that come meanwhile share it.
type flight struct {
	done      chan struct{}
	placement Placement
	err       error
}

// maxFlights bounds the placements under way: they outlive the callers that began them.
const maxFlights = 8192

func newDesk(a *Assigner, node Log, lead raftnode.Leadership) *desk {
	return &desk{
		Assigner: a,
		node:     node,
		lead:     lead,
		silence:  newSilence(node, a.config.StaleAfter, a.log),
		flights:  make(map[fsm.MeetingKey]*flight),
		placing:  make(map[uint64]struct{}),
	}
}

// standing returns the live assignment of a meeting, if it stands: its controller is not
// unhealthy (a draining one keeps what it has) and has not restarted since it accepted. It is a
// linearizable read. A Placement without assignment means that there is none.
func (d *desk) standing(ctx context.Context, key fsm.MeetingKey) (Placement, error) {
	if p := d.look(key); p.Assignment == nil {
		return Placement{}, nil // what follows commits, and that proves the leadership
	}
	read, err := d.node.ReadIndex(ctx)
	if err != nil {
		return Placement{}, err
	}
	if err := d.node.WaitApplied(ctx, read.Index); err != nil {
		return Placement{}, err
	}
	return d.look(key), nil
}

// look is standing as this replica's state has it.
func (d *desk) look(key fsm.MeetingKey) (p Placement) {
	d.node.Machine().View(func(s *fsm.State) {
		if live := s.LiveAssignment(key); live != nil && stands(live, s.Node(fsm.MeetingController, live.MCID)) {
			p = Placement{Assignment: live, Index: s.Index()}
		}
	})
	return p
}

// stands says whether joiners may be sent to a live assignment as it is.
func stands(live *fsm.Assignment, mc *fsm.Node) bool {
	return mc != nil && mc.Health != fsm.Unhealthy && mc.Incarnation == live.MCIncarnation
}

// assign begins the placement of a meeting, or waits for the one that is under way and then has
// the caller look again: between its commit and here the assignment may have been ended, and the
// end acknowledged, before this caller came. A failure is shared as it is.
func (d *desk) assign(ctx context.Context, j Joining) (Placement, error) {
	d.mu.Lock()
	f, shared := d.flights[j.Key]
	if !shared && len(d.flights) >= maxFlights {
		d.mu.Unlock()
		return Placement{}, raftnode.ErrOverloaded
	}
	if !shared {
		f = &flight{done: make(chan struct{})}
		d.flights[j.Key] = f
	}
	d.mu.Unlock()
	if !shared {
		// The placement does not end with its first caller: others wait for it too.
		go d.fly(f, j)
	}
	select {
	case <-f.done:
		if shared && f.err == nil {
			return Placement{}, errDecideAgain
		}
		return f.placement, f.err
	case <-d.lead.Context.Done():
		// The placement goes on until its fate is known, which without a quorum may take long.
		// The next leader knows it too: joiners ask there.
		return Placement{}, raftnode.ErrInDoubt
	case <-ctx.Done():
		return Placement{}, context.Cause(ctx)
	}
}

func (d *desk) fly(f *flight, j Joining) {
	f.placement, f.err = d.place(j)
	d.mu.Lock()
	delete(d.flights, j.Key)
	d.mu.Unlock()
	close(f.done)
}

// waitWhilePlacing returns at once unless the token (0: any) may be that of the placement under
// way.
func (d *desk) waitWhilePlacing(ctx context.Context, key fsm.MeetingKey, token uint64) error {
	d.mu.Lock()
	f := d.flights[key]
	_, placing := d.placing[token]
	d.mu.Unlock()
	if f == nil || (token != 0 && !placing) {
		return nil
	}
	select {
	case <-f.done:
		return nil
	case <-d.lead.Context.Done():
		return raftnode.ErrNotLeader
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drawToken draws the next fencing token, and notes that its fate is open.
func (d *desk) drawToken() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counter++
	token, err := fsm.NewToken(d.lead.Term, d.counter)
	if err == nil {
		d.placing[token] = struct{}{}
	}
	return token, err
}

// decided notes that a token is committed and applied, or never will be.
func (d *desk) decided(token uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.placing, token)
}

func (d *desk) isPlacing(token uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.placing[token]
	return ok
}

// reconcile names what a controller hosts and must not. A token is kept while its placement is
// under way, and looked for there before in the state: the other order would drop a meeting that
// commits in between. A token of an older term that is not in the state never will be, since
// this leader applied everything that older terms left before it began. One of a newer term is
// not this leader's to judge.
func (d *desk) reconcile(controller string, hosted []Hosted) []Hosted {
	var release []Hosted
	for _, h := range hosted {
		if h.Token == 0 || d.isPlacing(h.Token) || fsm.TokenTerm(h.Token) > d.lead.Term {
			continue
		}
		var live *fsm.Assignment
		d.node.Machine().View(func(s *fsm.State) { live = s.LiveAssignment(h.Key) })
		if live == nil || live.Token != h.Token || live.MCID != controller {
			release = append(release, h)
			d.metrics.orphans.WithLabelValues("heartbeat").Inc()
		}
	}
	return release
}

const (
	pruneInterval = time.Minute
	pruneBatch    = 1000
)

// prune forgets ended assignments when their time for audit is over, in bounded batches.
func (d *desk) prune(ctx context.Context) {
	ticker := time.NewTicker(pruneInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := time.Now().Add(-d.config.EndedRetention).UnixMilli()
		for d.prunable(before) {
			_, err := d.node.Propose(ctx, raftnode.Bulk, &commandv1.Command{Op: &commandv1.Command_PruneEnded{
				PruneEnded: &commandv1.PruneEnded{BeforeUnixMs: before, Limit: pruneBatch},
			}})
			if err != nil {
				break // the next tick tries again
			}
		}
	}
}

func (d *desk) prunable(before int64) (yes bool) {
	d.node.Machine().View(func(s *fsm.State) { yes = s.EndedBefore(before) })
	return yes
}
