package assign

import (
	"container/list"
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hashicorp/go-hclog"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// silence finds nodes, of both kinds, that have not reported for too long. It belongs to one
// leadership. It measures by this leader's monotonic clock, from the moment this leader received
// the last report: wall clocks of other machines have no part in it. Everyone begins with a full
// period of grace, and has one again after a gap in this leader's own time, when reports could
// not have been received.
type silence struct {
	after time.Duration
	log   hclog.Logger
	node  Log

	mu    sync.Mutex
	order *list.List // of *heard, the longest silent first
	nodes map[nodeKey]*list.Element
	// grace is the earliest moment that silence is counted from.
	grace time.Time
	// looked is when silence was last looked for.
	looked time.Time
}

type heard struct {
	key nodeKey
	at  time.Time
}

// maxMarking bounds how many nodes are marked at once.
const maxMarking = 256

func newSilence(node Log, after time.Duration, log hclog.Logger) *silence {
	now := time.Now()
	return &silence{
		after:  after,
		log:    log,
		node:   node,
		order:  list.New(),
		nodes:  make(map[nodeKey]*list.Element),
		grace:  now,
		looked: now,
	}
}

// interval is the time between two sweeps.
func (s *silence) interval() time.Duration { return min(time.Second, s.after/10) }

// heard notes that a report or registration of a node was received just now.
func (s *silence) heard(kind fsm.Kind, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.note(nodeKey{kind, id}, time.Now())
}

// heardAll notes that the nodes that commands register or report of were heard just now.
func (s *silence) heardAll(cmds []*commandv1.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, cmd := range cmds {
		switch op := cmd.Op.(type) {
		case *commandv1.Command_ReportLoad:
			s.note(nodeKey{op.ReportLoad.Kind, op.ReportLoad.Id}, now)
		case *commandv1.Command_RegisterNode:
			s.note(nodeKey{op.RegisterNode.Kind, op.RegisterNode.Id}, now)
		}
	}
}

func (s *silence) note(key nodeKey, now time.Time) {
	if e, ok := s.nodes[key]; ok {
		e.Value.(*heard).at = now
		s.order.MoveToBack(e)
		return
	}
	s.nodes[key] = s.order.PushBack(&heard{key, now})
}

// run sweeps until the leadership ends.
func (s *silence) run(ctx context.Context) {
	s.watchKnown()
	ticker := time.NewTicker(s.interval())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.sweep(ctx)
		}
	}
}

// watchKnown begins to watch the nodes that the state knows: those that never report again must
// be found too.
func (s *silence) watchKnown() {
	state := s.node.Machine().Snapshot()
	for _, kind := range []fsm.Kind{fsm.MediaHandler, fsm.MeetingController} {
		state.Nodes(kind, "", func(n *fsm.Node) bool {
			key := nodeKey{kind, n.ID}
			s.mu.Lock()
			defer s.mu.Unlock()
			if _, ok := s.nodes[key]; !ok {
				s.nodes[key] = s.order.PushFront(&heard{key, s.grace})
			}
			return true
		})
	}
}

// sweep marks those who are silent too long.
func (s *silence) sweep(ctx context.Context) {
	var marking errgroup.Group
	marking.SetLimit(maxMarking)
	for {
		key, ok := s.next()
		if !ok {
			break
		}
		// What is read here is named in the command. A report that is received later
		// changes it, if it commits first, and then wins.
		var node *fsm.Node
		s.node.Machine().View(func(state *fsm.State) { node = state.Node(key.kind, key.id) })
		if node != nil && node.Health == fsm.Unhealthy {
			s.heard(key.kind, key.id) // nothing to do now; a report that waits to be committed may change that
			continue
		}
		if !s.forget(key) || node == nil {
			continue
		}
		marking.Go(func() error {
			s.mark(ctx, node)
			return nil
		})
	}
	_ = marking.Wait() // mark has no error to return
}

// next returns the longest silent node, if it is silent too long.
func (s *silence) next() (nodeKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noticeGap()
	front := s.order.Front()
	if front == nil || !s.silent(front.Value.(*heard)) {
		return nodeKey{}, false
	}
	return front.Value.(*heard).key, true
}

// noticeGap counts silence anew when nothing has looked for it for too long: this leader was
// paused. It comes before every judgement, since a pause may fall into the middle of a sweep.
func (s *silence) noticeGap() {
	now := time.Now()
	if gap := now.Sub(s.looked); gap > s.interval()+s.after/10 {
		s.log.Warn("this leader was paused; silence is counted anew", "gap", gap)
		s.grace = now
	}
	s.looked = now
}

func (s *silence) silent(h *heard) bool {
	since := h.at
	if since.Before(s.grace) {
		since = s.grace
	}
	return time.Since(since) >= s.after
}

// forget stops watching a node that is still silent, until it is heard again.
func (s *silence) forget(key nodeKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.nodes[key]
	if !ok || !s.silent(e.Value.(*heard)) {
		return false
	}
	s.order.Remove(e)
	delete(s.nodes, key)
	return true
}

// mark commits that a node is stale, unless it is heard meanwhile.
func (s *silence) mark(ctx context.Context, n *fsm.Node) {
	r, err := s.node.Propose(ctx, raftnode.Bulk, &commandv1.Command{Op: &commandv1.Command_MarkStale{
		MarkStale: &commandv1.MarkStale{Kind: n.Kind, Id: n.ID, HeardIndex: n.HeardIndex},
	}})
	switch {
	case err != nil:
		// Not marked, or not known to be: look at it again after another period.
		s.heard(n.Kind, n.ID)
		if ctx.Err() == nil {
			s.log.Warn("could not mark a silent node", "node", n.ID, "error", err)
		}
	case r.Outcome == fsm.Conflict:
		// A report came first. It may have been received long ago, and have been the last.
		s.heard(n.Kind, n.ID)
	case r.Outcome == fsm.Applied:
		s.log.Info("node is stale", "kind", n.Kind.String(), "node", n.ID, "region", n.Region,
			"was", n.Health.String(), "silent_for", s.after, "index", r.Index)
	}
}
