package assign

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Config says how meetings are placed.
type Config struct {
	// StaleAfter is how long a node may be silent.
	StaleAfter time.Duration
	// MaxAttempts is how many different meeting controllers a join tries.
	MaxAttempts int
	// EndedRetention is how long ended assignments are kept for audit.
	EndedRetention time.Duration
}

// Assigner places meetings while its replica leads. Its methods may be called from several
// goroutines, and answer raftnode.ErrNotLeader when the replica does not lead.
type Assigner struct {
	config      Config
	log         hclog.Logger
	metrics     *Metrics
	index       *Index
	controllers *Controllers
	releases    chan struct{} // bounds the calls of ReleaseMeeting under way
	desk        atomic.Pointer[desk]
}

// NewAssigner returns an Assigner whose replica does not lead yet.
func NewAssigner(c Config, index *Index, controllers *Controllers, metrics *Metrics, log hclog.Logger) *Assigner {
	return &Assigner{
		config:      c,
		log:         log,
		metrics:     metrics,
		index:       index,
		controllers: controllers,
		releases:    make(chan struct{}, maxReleases),
	}
}

// Lead begins a leadership: what belongs to one term is made anew, the token counter, the
// meetings in flight and the timers of silence.
func (a *Assigner) Lead(node Log, lead raftnode.Leadership) {
	a.index.Lead(lead.Context)
	d := newDesk(a, node, lead)
	a.desk.Store(d)
	go d.silence.run(lead.Context)
	go d.prune(lead.Context)
	context.AfterFunc(lead.Context, func() { a.desk.CompareAndSwap(d, nil) })
}

// Heard notes that the leader received what nodes report and how they register, before it is
// committed.
func (a *Assigner) Heard(cmds []*commandv1.Command) {
	if d := a.desk.Load(); d != nil {
		d.silence.heardAll(cmds)
	}
}

// Joining is what a client wants that joins a meeting.
type Joining struct {
	Key fsm.MeetingKey
	// PreferredZone is chosen from while there is anybody; empty: no matter which.
	PreferredZone string
	// Request names the call over all of its attempts; 0: it has no name.
	Request uint64
}

// Placement is the answer to a join.
type Placement struct {
	Assignment *fsm.Assignment
	// Created is false when the assignment was there already, and not by an earlier attempt of
	// the same call.
	Created bool
	// Index is the Raft index that the answer reflects.
	Index uint64
}

// Join returns the live assignment of a meeting, or makes one. Errors: raftnode.ErrNotLeader (try
// the leader), raftnode.ErrInDoubt (likewise, it may have been placed), ErrNoMediaHandlers,
// ErrNoControllers, ErrUnreachable, *RejectedError, raftnode.ErrOverloaded, or the context's.
func (a *Assigner) Join(ctx context.Context, j Joining) (Placement, error) {
	start := time.Now()
	p, err := a.join(ctx, j)
	if err == nil && j.Request != 0 && p.Assignment.Request == j.Request {
		p.Created = true
	}
	a.observeJoin(p, err, time.Since(start))
	return p, err
}

func (a *Assigner) join(ctx context.Context, j Joining) (Placement, error) {
	for {
		d := a.desk.Load()
		if d == nil {
			return Placement{}, raftnode.ErrNotLeader
		}
		p, err := d.standing(ctx, j.Key)
		if err != nil || p.Assignment != nil {
			return p, err
		}
		p, err = d.assign(ctx, j)
		if !errors.Is(err, errDecideAgain) {
			return p, err
		}
	}
}

// End ends the assignment that the token names. A meeting that is just being placed is waited
// for: its controller may end it before its acceptance is committed. The request names the call over
// all of its attempts: what an earlier one ended is a success, though the meeting lives again. Errors: ErrNoAssignment,
// ErrFenced, raftnode.ErrNotLeader, raftnode.ErrInDoubt (ending again is safe),
// raftnode.ErrOverloaded, or the context's.
func (a *Assigner) End(ctx context.Context, key fsm.MeetingKey, token uint64, reason string, request uint64) (fsm.Result, error) {
	d := a.desk.Load()
	if d == nil {
		return fsm.Result{}, raftnode.ErrNotLeader
	}
	if err := d.waitWhilePlacing(ctx, key, token); err != nil {
		return fsm.Result{}, err
	}
	end := &commandv1.End{MeetingId: key.MeetingID, Region: key.Region, FencingToken: token, Reason: reason}
	if d.node.Understands(fsm.SessionsSince) {
		end.RequestId = request
	}
	r, err := d.node.Propose(ctx, raftnode.Urgent, &commandv1.Command{Op: &commandv1.Command_End{End: end}})
	switch {
	case err != nil:
		return r, err
	case r.Outcome == fsm.NoAssignment:
		return r, ErrNoAssignment
	case r.Outcome == fsm.Fenced:
		return r, ErrFenced
	}
	return r, nil
}

// ReleaseEnded tells the controller of an ended assignment to drop the meeting, in the
// background and at best effort: its next comprehensive heartbeat is told again.
func (a *Assigner) ReleaseEnded(ended *fsm.Assignment) {
	if d := a.desk.Load(); d != nil {
		d.releaseEnded(ended)
	}
}

// Hosted is a meeting that a controller says it hosts.
type Hosted struct {
	Key   fsm.MeetingKey
	Token uint64
}

// Reconcile returns what a controller must drop of what it hosts. It must be called after a
// heartbeat of that controller was committed by this leadership.
func (a *Assigner) Reconcile(controller string, hosted []Hosted) ([]Hosted, error) {
	d := a.desk.Load()
	if d == nil {
		return nil, raftnode.ErrNotLeader
	}
	return d.reconcile(controller, hosted), nil
}

func (a *Assigner) observeJoin(p Placement, err error, took time.Duration) {
	status, reason := "success", "none"
	var rejected *RejectedError
	switch {
	case errors.Is(err, raftnode.ErrNotLeader), errors.Is(err, raftnode.ErrInDoubt):
		return // another replica answers this join
	case errors.As(err, &rejected):
		status, reason = "rejected", rejectionLabel(rejected.Reason)
	case err != nil:
		status = "error"
	case !p.Created:
		status = "reused"
	}
	a.metrics.assignments.WithLabelValues(status, reason).Inc()
	a.metrics.assignmentDuration.WithLabelValues(status).Observe(took.Seconds())
}
