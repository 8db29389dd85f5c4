package chaos

import (
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-rtc/conclave/fsm"
	"github.com/conclave-rtc/conclave/sim"
)

// checker holds one round's records to the invariants.
type checker struct {
	calls      []*Call
	samples    []sample
	log        *replay
	violations *violations
	report     *Report
	dir        string // for what shows a violation
}

func (c *checker) count(invariant int) { c.report.Checks[invariant]++ }

// linearizability checks every meeting of the round by itself: meetings have no part in each
// other, so the whole is linearizable if each is (Herlihy and Wing, locality).
func (c *checker) linearizability() {
	byMeeting := make(map[sim.Key][]*Call)
	for _, call := range c.calls {
		if checkable(call) {
			key := sim.Key{Meeting: call.Meeting, Region: call.Region}
			byMeeting[key] = append(byMeeting[key], call)
		}
	}
	var mu sync.Mutex
	var work sync.WaitGroup
	turn := make(chan struct{}, runtime.NumCPU())
	for key, calls := range byMeeting {
		turn <- struct{}{}
		work.Go(func() {
			defer func() { <-turn }()
			ops := operations(calls)
			model := meetingModel.ToModel()
			result, info := porcupine.CheckOperationsVerbose(model, ops, porcupineTimeout)
			mu.Lock()
			defer mu.Unlock()
			c.count(1)
			c.report.Checked += len(ops)
			c.report.Histories++
			if result == porcupine.Ok {
				return
			}
			path := filepath.Join(c.dir, "linearizability-"+key.Meeting+"-"+key.Region+".html")
			shown := "shown in " + path
			if err := porcupine.VisualizePath(model, info, path); err != nil {
				shown = err.Error()
			}
			c.violations.add(1, "linearizable", lastBack(calls), "%v of %v is %s, %s", len(ops), key, result, shown)
		})
	}
	work.Wait()
}

// porcupineTimeout bounds the check of one meeting; a check that does not end is a violation too.
const porcupineTimeout = 60 * time.Second

// checkable calls are those that the model knows. A read without an answer tells nothing, and so
// does a join that was refused: it says something of the nodes, not of the meeting.
func checkable(c *Call) bool {
	switch c.Kind {
	case KindJoin:
		return c.Outcome != Refused
	case KindEnd:
		return true
	case KindGet:
		return c.Outcome == Done || c.Reason == "NO_ASSIGNMENT"
	}
	return false
}

func lastBack(calls []*Call) (at time.Duration) {
	for _, c := range calls {
		at = max(at, c.Back)
	}
	return at
}

// writes checks that what was acknowledged is in the log, once.
func (c *checker) writes() {
	told := make(map[uint64]int)
	for _, call := range c.calls {
		switch {
		case call.Kind == KindJoin && call.Outcome == Done:
			c.join(call)
			if call.Created {
				if told[call.Found.Token]++; told[call.Found.Token] > 1 {
					c.violations.add(2, "created once", call.Back, "token %d was created %d times", call.Found.Token, told[call.Found.Token])
				}
			}
		case call.Kind == KindEnd && call.Outcome == Done && call.Token != 0:
			c.count(2)
			if c.log.ended[call.Token] == 0 {
				c.violations.add(2, "acknowledged ends", call.Back, "the end of %s/%s with token %d is not in the log", call.Region, call.Meeting, call.Token)
			}
		case call.Kind == KindReport || call.Kind == KindRegister:
			c.reported(call)
		}
	}
	for token, times := range c.log.ended {
		if times > 1 {
			c.violations.add(2, "ended once", 0, "token %d was ended %d times", token, times)
		}
	}
}

// join checks an acknowledged join against the log: the very same tuple is there.
func (c *checker) join(call *Call) {
	c.count(2)
	c.count(4)
	made := c.log.created[call.Found.Token]
	switch {
	case made == nil:
		c.violations.add(2, "acknowledged joins", call.Back, "%s/%s with token %d is not in the log", call.Region, call.Meeting, call.Found.Token)
	case made.key != fsm.MeetingKey{Region: call.Region, MeetingID: call.Meeting} || !samePlacement(&made.placement, call.Found):
		c.violations.add(4, "told what was committed", call.Back, "%s/%s: told %v, committed %v of %v", call.Region, call.Meeting, *call.Found, made.placement, made.key)
	case made.times != 1:
		c.violations.add(2, "applied once", call.Back, "token %d took effect %d times", call.Found.Token, made.times)
	}
}

func (c *checker) reported(call *Call) {
	c.count(2)
	e := c.log.reports[reportKey{call.Node, call.Seq, call.Kind == KindRegister}]
	switch {
	case call.Outcome == Done && e == nil:
		c.violations.add(2, "acknowledged reports", call.Back, "%s %d of %s is not in the log", call.Kind, call.Seq, call.Node)
	case e != nil && e.times > 1:
		c.violations.add(2, "reports take effect once", call.Back, "%s %d of %s took effect %d times", call.Kind, call.Seq, call.Node, e.times)
	}
}

// reads checks that every answer that names an index is the state at that index, and that sessions
// do not go backwards.
func (c *checker) reads() {
	type session struct {
		client, replica string
		life            int
	}
	latest := make(map[session]*Call)
	for _, call := range bySent(c.calls) {
		read := call.Kind == KindGet || call.Kind == KindGetStale
		if !read || (call.Outcome != Done && call.Reason != "NO_ASSIGNMENT") {
			continue
		}
		c.count(7)
		if call.Index < call.Min {
			c.violations.add(7, "minimum index", call.Back, "asked for %d, told %d", call.Min, call.Index)
		}
		want := c.log.liveAt(fsm.MeetingKey{Region: call.Region, MeetingID: call.Meeting}, call.Index)
		if (want == nil) != (call.Found == nil) || (want != nil && !samePlacement(want, call.Found)) {
			c.violations.add(7, "reads are of the state at their index", call.Back,
				"%s of %s/%s at %s, index %d: told %v, the log says %v", call.Kind, call.Region, call.Meeting, call.Replica, call.Index, call.Found, want)
		}
		s := session{call.Client, call.Replica, call.Life}
		if before := latest[s]; before != nil && before.Index > call.Index {
			c.violations.add(7, "reads do not go backwards", call.Back,
				"%s at %s: index %d after %d", call.Client, call.Replica, call.Index, before.Index)
		}
		latest[s] = call
	}
}

func bySent(calls []*Call) []*Call {
	sorted := slices.Clone(calls)
	sort.SliceStable(sorted, func(i, j int) bool { return sorted[i].Sent < sorted[j].Sent })
	return sorted
}

// hashes checks every hash that a replica told against the replayed log.
func (c *checker) hashes() {
	for _, s := range c.samples {
		if s.Index > c.log.machine.Index() {
			continue // told by a leader that did not know yet that its last entries would go
		}
		c.count(8)
		if want, ok := c.log.hashes[s.Index]; ok && want != s.Hash {
			c.violations.add(8, "equal hashes", 0, "%s at index %d has state hash %s, the log makes %s", s.Replica, s.Index, s.Hash, want)
		}
	}
}

// silence checks that no handler was called stale between two acknowledged reports that are nearer
// than the staleness period: from sending the first to the answer to the second, the leader cannot
// have missed it for longer.
func (c *checker) silence() {
	type point struct {
		index      uint64
		sent, back time.Duration
	}
	byNode := make(map[string][]point)
	for _, call := range c.calls {
		if call.Node == "" || call.Outcome != Done {
			continue
		}
		if e := c.log.reports[reportKey{call.Node, call.Seq, call.Kind == KindRegister}]; e != nil {
			byNode[call.Node] = append(byNode[call.Node], point{e.index, call.Sent, call.Back})
		}
	}
	for _, points := range byNode {
		sort.Slice(points, func(i, j int) bool { return points[i].index < points[j].index })
	}
	for _, m := range c.log.marks {
		points := byNode[m.node]
		c.count(6)
		next := sort.Search(len(points), func(i int) bool { return points[i].index > m.index })
		if next == 0 || next == len(points) {
			continue
		}
		if gap := points[next].back - points[next-1].sent; gap < staleAfter {
			c.violations.add(6, "nodes that report are not stale", points[next].back,
				"%s was marked at index %d, between reports %v apart", m.node, m.index, gap.Round(time.Millisecond))
		}
	}
}

// accepted checks what MCs were told: every committed assignment was accepted before by that very
// MC with that very token and those media handlers, and no MC takes a lower token.
func (c *checker) accepted(controllers []*sim.MeetingController, since time.Time) {
	type acceptance struct {
		token uint64
		mc    string
	}
	taken := make(map[acceptance]sim.Event)
	for _, m := range controllers {
		highest := make(map[sim.Key]uint64)
		for _, event := range m.Events() {
			if event.Kind == sim.EventRestart && event.Outcome == sim.OutcomeForgot {
				clear(highest)
			}
			if event.Kind != sim.EventAssign || (event.Outcome != sim.OutcomeAccepted && event.Outcome != sim.OutcomeRepeated) {
				continue
			}
			c.count(3)
			key := sim.Key{Meeting: event.Meeting, Region: event.Region}
			if event.Token < highest[key] {
				c.violations.add(3, "no MC takes a lower token", event.At.Sub(since), "%s took %v with token %d after %d", m.ID(), key, event.Token, highest[key])
			}
			highest[key] = max(highest[key], event.Token)
			if _, known := taken[acceptance{event.Token, m.ID()}]; !known {
				taken[acceptance{event.Token, m.ID()}] = event
			}
		}
	}
	told := make(map[uint64]time.Duration)
	for _, call := range c.calls {
		if call.Found == nil {
			continue
		}
		if at, ok := told[call.Found.Token]; !ok || call.Back < at {
			told[call.Found.Token] = call.Back
		}
	}
	for token, made := range c.log.created {
		c.count(4)
		event, ok := taken[acceptance{token, made.placement.MC}]
		switch at, wasTold := told[token]; {
		case !ok:
			c.violations.add(4, "accepted before committed", at, "%s never accepted %v with token %d (entry %d)", made.placement.MC, made.key, token, made.index)
		case !slices.Equal(event.MHs, made.placement.MHs) || event.Meeting != made.key.MeetingID || event.Region != made.key.Region:
			c.violations.add(4, "accepted what was committed", at, "%s accepted %v with %v, committed is %v with %v", made.placement.MC, event.Meeting, event.MHs, made.key, made.placement.MHs)
		case wasTold && event.At.Sub(since) > at:
			c.violations.add(4, "accepted before told", at, "token %d was told before %s had accepted it", token, made.placement.MC)
		}
	}
}

// zombies are meetings that an MC hosts and that are not live there.
func (c *checker) zombies(hosted map[string]map[sim.Key]sim.Hosted, at time.Duration) {
	for mc, meetings := range hosted {
		for key, held := range meetings {
			c.count(5)
			var live *fsm.Assignment
			c.log.machine.View(func(s *fsm.State) {
				live = s.LiveAssignment(fsm.MeetingKey{Region: key.Region, MeetingID: key.Meeting})
			})
			if live == nil || live.MCID != mc || live.Token != held.Token {
				c.violations.add(5, "zombies", at, "%s hosts %v with token %d, live is %v", mc, key, held.Token, live)
			}
		}
	}
}

// hosting checks that every live assignment is hosted by its MC, unless that one has registered
// again since: it may have forgotten, and is asked at the next join.
func (c *checker) hosting(hosted map[string]map[sim.Key]sim.Hosted, at time.Duration) {
	c.log.machine.View(func(s *fsm.State) {
		s.Assignments(fsm.Cursor{}, "", "", false, func(live *fsm.Assignment) bool {
			mc := s.Node(fsm.MeetingController, live.MCID)
			if mc == nil || mc.Incarnation != live.MCIncarnation || mc.Health == fsm.Unhealthy {
				return true
			}
			c.count(4)
			if held, ok := hosted[live.MCID][sim.Key{Meeting: live.MeetingID, Region: live.Region}]; !ok || held.Token != live.Token {
				c.violations.add(4, "what is live is hosted", at, "%v is live at %s with token %d, which hosts %v (%v)", live.MeetingKey, live.MCID, live.Token, held, ok)
			}
			return true
		})
	})
}

// silent checks that handlers that fell silent for long enough were marked.
func (c *checker) silent(handlers []string, at time.Duration) {
	for _, id := range handlers {
		c.count(6)
		if node := c.log.nodes[id]; node == nil || node.Health != fsm.Unhealthy {
			c.violations.add(6, "silent nodes are marked", at, "%s said nothing for %v and is %v", id, silentFor, node)
		}
	}
}
