package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// devView shows what the system does: on a terminal as a block that is redrawn, else as a line
// now and then.
type devView struct {
	w        io.Writer
	system   *devSystem
	terminal bool
	began    time.Time

	mu     sync.Mutex
	events []string // the latest, for the block
	drawn  int      // lines of the block on the screen
}

func newDevView(w io.Writer, s *devSystem) *devView {
	v := &devView{w: w, system: s, began: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		v.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return v
}

// welcome says where everything is.
func (v *devView) welcome(dir string) {
	fmt.Fprintf(v.w, "Conclave: %d replicas, %d media handlers, %d meeting controllers in %s\n\n",
		len(v.system.replicas.Replicas()), v.system.handlers, v.system.controls, strings.Join(v.system.regions, ", "))
	for _, r := range v.system.replicas.Replicas() {
		fmt.Fprintf(v.w, "  %s  gRPC %s  raft %s  http://%s/metrics\n", r.ID, r.GRPCAddr, r.RaftAddr, r.HTTPAddr)
	}
	fmt.Fprintf(v.w, "  data and logs in %s\n\n  try: conclave status --target %s\n\n", dir, v.system.replicas.Targets())
}

const (
	redrawEvery = time.Second
	// lineEvery is how often a line is printed where nothing can be redrawn.
	lineEvery  = 2
	showEvents = 5
	// showGaps is how many of the last failovers are shown: all would not fit a line.
	showGaps = 4
)

// follow shows the system until the context ends.
func (v *devView) follow(ctx context.Context) {
	ticker := time.NewTicker(redrawEvery)
	defer ticker.Stop()
	for tick := 1; ; tick++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if !v.terminal && tick%lineEvery != 0 {
			continue
		}
		if shot := v.look(ctx); ctx.Err() == nil { // half a look would show replicas as down
			v.draw(shot)
		}
	}
}

// devSnapshot is what one look shows.
type devSnapshot struct {
	leader   string
	term     uint64
	up       int
	mhs, mcs map[string]int // by health
	live     uint64
	joins    sim.JoinStats
}

// look asks the replicas how they are, and one of them, as it stands, about the nodes.
func (v *devView) look(ctx context.Context) devSnapshot {
	shot := devSnapshot{leader: "none", mhs: map[string]int{}, mcs: map[string]int{}, joins: v.system.joiners.Stats()}
	for _, r := range v.system.replicas.Replicas() {
		if !r.Running() {
			continue
		}
		status, err := r.Status(ctx)
		if err != nil {
			continue
		}
		shot.up++
		if status.Term >= shot.term && status.LeaderId != "" {
			shot.leader, shot.term = status.LeaderId, status.Term
		}
		shot.live = max(shot.live, status.LiveAssignments)
	}
	// Errors are left out: the next look is a second away.
	_ = v.system.cluster.EachMediaHandler(ctx, conclavev1.Consistency_STALE, func(h *conclavev1.MediaHandler) {
		shot.mhs[lowercase(h.Health)]++
	})
	_ = v.system.cluster.EachMeetingController(ctx, conclavev1.Consistency_STALE, func(c *conclavev1.MeetingController) {
		shot.mcs[lowercase(c.Health)]++
	})
	return shot
}

func (v *devView) draw(s devSnapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.terminal {
		fmt.Fprintf(v.w, "%5.0fs  leader %s term %d, %d up | MHs %s | MCs %s | %d live | joins %s | failovers %s\n",
			time.Since(v.began).Seconds(), s.leader, s.term, s.up, tally(s.mhs), tally(s.mcs), s.live, joinLine(s.joins), failoverLine(s.joins))
		return
	}
	lines := []string{
		fmt.Sprintf("  leader      %s, term %d, %d of %d replicas up, %.0f s", s.leader, s.term, s.up, len(v.system.replicas.Replicas()), time.Since(v.began).Seconds()),
		fmt.Sprintf("  MHs         %s", tally(s.mhs)),
		fmt.Sprintf("  MCs         %s", tally(s.mcs)),
		fmt.Sprintf("  meetings    %d live", s.live),
		fmt.Sprintf("  joins       %s", joinLine(s.joins)),
		fmt.Sprintf("  failovers   %s", failoverLine(s.joins)),
		"",
	}
	lines = append(lines, v.events...)
	if v.drawn > 0 {
		fmt.Fprintf(v.w, "\x1b[%dA\x1b[J", v.drawn)
	}
	fmt.Fprintln(v.w, strings.Join(lines, "\n"))
	v.drawn = len(lines)
}

// tally is "58 healthy, 2 degraded": the most first.
func tally(counts map[string]int) string {
	var names []string
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	if len(names) == 0 {
		return "none seen"
	}
	return strings.Join(names, ", ")
}

func joinLine(s sim.JoinStats) string {
	return fmt.Sprintf("%d, %.0f/s on average, p50 %s, p99 %s, max %s", s.Joins, s.PerSecond, roundly(s.P50), roundly(s.P99), roundly(s.Max))
}

func failoverLine(s sim.JoinStats) string {
	if len(s.Gaps)+s.OpenGaps == 0 {
		return "none"
	}
	var gaps []string
	for _, gap := range s.Gaps[max(0, len(s.Gaps)-showGaps):] {
		gaps = append(gaps, roundly(gap))
	}
	if s.OpenGaps > 0 {
		gaps = append(gaps, fmt.Sprintf("%d under way", s.OpenGaps))
	}
	line := fmt.Sprintf("%d, next join after %s", len(s.Gaps)+s.OpenGaps, strings.Join(gaps, ", "))
	if len(s.Gaps) > showGaps {
		line += fmt.Sprintf(" (longest %s)", roundly(slices.Max(s.Gaps)))
	}
	return line
}

// roundly is a duration with three digits or so.
func roundly(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

func (v *devView) killed(id string)    { v.event("killed the leader, " + id + ", with SIGKILL") }
func (v *devView) restarted(id string) { v.event("restarted " + id) }

// event shows something that happened.
func (v *devView) event(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := fmt.Sprintf("%5.0fs  %s", time.Since(v.began).Seconds(), text)
	if !v.terminal {
		fmt.Fprintln(v.w, line)
		return
	}
	v.events = append(v.events, line)
	v.events = v.events[max(0, len(v.events)-showEvents):]
}

func (v *devView) judging() {
	fmt.Fprintln(v.w, "\nthe joining is over; comparing the cluster's word with what the fleet hosts ...")
}

// verdict is the last thing shown.
func (v *devView) verdict(verdict *sim.Verdict, s sim.JoinStats) {
	fmt.Fprintf(v.w, "\njoins     %s\nfailovers %s\n\n%s\n", joinLine(s), failoverLine(s), verdict)
	if verdict.OK() {
		fmt.Fprintln(v.w, "VERDICT: the cluster kept its word")
	} else {
		fmt.Fprintln(v.w, "VERDICT: the cluster broke its word")
	}
}
