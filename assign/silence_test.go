package assign

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

const (
	staleAfter = 30 * time.Second
	// oneSweep is more than the time between two sweeps.
	oneSweep = 1100 * time.Millisecond
)

// watch is a leader that watches for silence, under a clock that is the test's.
type watch struct {
	t        *testing.T
	log      *fakeLog
	assigner *Assigner
	depose   context.CancelFunc
}

// inBubble runs a test with a leader in a bubble of its own time.
func inBubble(t *testing.T, test func(t *testing.T, w *watch)) {
	synctest.Test(t, func(t *testing.T) {
		index := NewIndex()
		token, _ := OpenTokenFile("", hclog.NewNullLogger())
		metrics := NewMetrics(prometheus.NewRegistry())
		w := &watch{t: t, log: newFakeLog(index), depose: func() {}}
		w.assigner = NewAssigner(Config{StaleAfter: staleAfter, MaxAttempts: 3, EndedRetention: time.Hour},
			index, NewControllers(token, time.Second, metrics), metrics, hclog.NewNullLogger())
		defer func() {
			w.depose()
			synctest.Wait()
		}()
		test(t, w)
	})
}

// lead begins a term of leadership.
func (w *watch) lead() {
	w.depose()
	synctest.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	w.depose = cancel
	w.assigner.Lead(w.log, raftnode.Leadership{Term: w.log.elect(), Context: ctx})
	synctest.Wait()
}

// reportOf and registrationOf are what the leader receives of a node.
func reportOf(kind fsm.Kind, id string) []*commandv1.Command {
	return []*commandv1.Command{{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{Kind: kind, Id: id}}}}
}

func registrationOf(kind fsm.Kind, id string) []*commandv1.Command {
	return []*commandv1.Command{{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{Kind: kind, Id: id}}}}
}

// beat is a report: received, then committed.
func (w *watch) beat(kind fsm.Kind, id string, health fsm.Health) {
	w.assigner.Heard(reportOf(kind, id))
	w.log.report(kind, id, health, 1)
}

func (w *watch) pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func (w *watch) expect(kind fsm.Kind, id string, want fsm.Health) {
	w.t.Helper()
	if got := w.log.node(kind, id).Health; got != want {
		w.t.Errorf("%s is %v, want %v", id, got, want)
	}
}

func TestASilentNodeIsMarkedAfterThePeriodAndNotBefore(t *testing.T) {
	for _, kind := range []fsm.Kind{fsm.MediaHandler, fsm.MeetingController} {
		for _, was := range []fsm.Health{fsm.Pending, fsm.Healthy, fsm.Degraded, fsm.Draining} {
			t.Run(kind.String()+" "+was.String(), func(t *testing.T) {
				inBubble(t, func(t *testing.T, w *watch) {
					w.lead()
					w.pass(5 * time.Second)
					w.assigner.Heard(registrationOf(kind, "n"))
					w.log.register(registration{kind: kind, id: "n"})
					if was != fsm.Pending {
						w.beat(kind, "n", was)
					}
					w.pass(staleAfter - oneSweep)
					w.expect(kind, "n", was)
					w.pass(2 * oneSweep)
					w.expect(kind, "n", fsm.Unhealthy)
				})
			})
		}
	}
}

func TestAReportKeepsANodeAlive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "speaks"})
		w.log.ready(registration{kind: fsm.MediaHandler, id: "silent"})
		w.lead()
		for range 20 {
			w.pass(staleAfter - oneSweep)
			w.expect(fsm.MediaHandler, "speaks", fsm.Healthy)
			w.beat(fsm.MediaHandler, "speaks", fsm.Healthy)
		}
		w.expect(fsm.MediaHandler, "silent", fsm.Unhealthy)
		if n := len(w.log.proposals(isMarkStale)); n != 1 {
			t.Errorf("%d nodes were marked, want the silent one once", n)
		}
	})
}

func TestANodeThatNeverReportsToThisLeaderIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		w.log.ready(registration{kind: fsm.MeetingController, id: "mc"})
		w.log.register(registration{kind: fsm.MeetingController, id: "pending"})
		w.lead()
		w.pass(staleAfter - oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Healthy)
		w.expect(fsm.MeetingController, "mc", fsm.Healthy)
		w.pass(2 * oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
		w.expect(fsm.MeetingController, "mc", fsm.Unhealthy)
		w.expect(fsm.MeetingController, "pending", fsm.Unhealthy)
	})
}

func TestAReportThatCommitsMeanwhileWins(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		w.lead()
		w.log.hook(func(cmd *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
			w.log.hook(nil)
			w.beat(fsm.MediaHandler, "mh", fsm.Degraded) // between the decision and its commit
			return apply(), nil
		})
		w.pass(staleAfter + oneSweep)
		if n := len(w.log.proposals(isMarkStale)); n != 1 {
			t.Fatalf("%d proposals, want 1", n)
		}
		w.expect(fsm.MediaHandler, "mh", fsm.Degraded)
		// And it is watched from that report on.
		w.pass(staleAfter - 2*oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Degraded)
		w.pass(3 * oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
	})
}

// A report that was received in time may be committed after the period, and have been the last.
func TestALateCommitKeepsNobodyAlive(t *testing.T) {
	for _, was := range []fsm.Health{fsm.Healthy, fsm.Unhealthy} {
		t.Run(was.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *watch) {
				w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
				w.log.report(fsm.MediaHandler, "mh", was, 1)
				w.lead()
				w.assigner.Heard(reportOf(fsm.MediaHandler, "mh"))
				w.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
					w.log.hook(nil)
					w.log.report(fsm.MediaHandler, "mh", fsm.Degraded, 1) // it was before the mark in the queue
					return apply(), nil
				})
				w.pass(staleAfter + oneSweep)
				if was == fsm.Unhealthy { // nothing was to be marked
					w.log.report(fsm.MediaHandler, "mh", fsm.Degraded, 1)
				}
				w.expect(fsm.MediaHandler, "mh", fsm.Degraded)
				w.log.hook(nil)
				w.pass(staleAfter + oneSweep)
				w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
			})
		})
	}
}

func TestANewLeaderGivesEveryoneAFullPeriod(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		w.log.ready(registration{kind: fsm.MeetingController, id: "mc"})
		w.lead()
		w.pass(staleAfter - oneSweep) // silent almost as long as may be
		w.lead()
		w.pass(staleAfter - oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Healthy)
		w.expect(fsm.MeetingController, "mc", fsm.Healthy)
		w.pass(2 * oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
		w.expect(fsm.MeetingController, "mc", fsm.Unhealthy)
	})
}

func TestADeposedLeaderMarksNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		w.lead()
		w.pass(staleAfter / 2)
		w.depose()
		w.pass(10 * staleAfter)
		w.expect(fsm.MediaHandler, "mh", fsm.Healthy)
	})
}

// A leader that is stopped (SIGSTOP, a migrated machine) cannot receive reports. Here the stop
// catches it in the middle of a sweep: the commit of one stale node takes long.
func TestAPauseOfTheLeaderGivesEveryoneAFullPeriod(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "dead"})
		w.log.ready(registration{kind: fsm.MediaHandler, id: "alive"})
		w.log.ready(registration{kind: fsm.MeetingController, id: "mc"})
		w.lead()
		w.pass(staleAfter / 2)
		w.beat(fsm.MediaHandler, "alive", fsm.Healthy)
		w.beat(fsm.MeetingController, "mc", fsm.Healthy)
		w.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
			time.Sleep(10 * staleAfter)
			return apply(), nil
		})
		w.pass(staleAfter/2 + oneSweep + 10*staleAfter)
		w.log.hook(nil)
		w.expect(fsm.MediaHandler, "dead", fsm.Unhealthy)
		w.pass(staleAfter - 3*oneSweep)
		w.expect(fsm.MediaHandler, "alive", fsm.Healthy)
		w.expect(fsm.MeetingController, "mc", fsm.Healthy)
		w.beat(fsm.MediaHandler, "alive", fsm.Healthy)
		w.pass(5 * oneSweep)
		w.expect(fsm.MediaHandler, "alive", fsm.Healthy)
		w.expect(fsm.MeetingController, "mc", fsm.Unhealthy)
	})
}

// The same between two sweeps: the clock has moved on, and nothing has looked.
func TestAPauseBetweenSweepsGivesEveryoneAFullPeriod(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		for i := range 3 {
			w.log.ready(registration{kind: fsm.MediaHandler, id: nodeID("mh", i)})
		}
		s := newSilence(w.log, staleAfter, hclog.NewNullLogger())
		s.watchKnown()
		w.pass(time.Second)
		s.sweep(t.Context())
		w.pass(10 * staleAfter)
		s.sweep(t.Context())
		for range 29 {
			w.pass(time.Second)
			s.sweep(t.Context())
		}
		if n := len(w.log.proposals(isMarkStale)); n != 0 {
			t.Errorf("%d nodes were marked within a period of the pause", n)
		}
		w.pass(time.Second)
		s.sweep(t.Context())
		if n := len(w.log.proposals(isMarkStale)); n != 3 {
			t.Errorf("%d nodes were marked a period after the pause, want 3", n)
		}
	})
}

// Sweeps that come a little late, as on a busy machine, are no pause: else nobody would ever
// be found silent.
func TestLateSweepsAreNoPause(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		s := newSilence(w.log, staleAfter, hclog.NewNullLogger())
		s.watchKnown()
		for range 11 {
			w.pass(3 * time.Second)
			s.sweep(t.Context())
		}
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
	})
}

func TestAStaleNodeThatReportsIsWatchedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		w.lead()
		w.pass(staleAfter + oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
		w.pass(10 * staleAfter)
		if n := len(w.log.proposals(isMarkStale)); n != 1 {
			t.Errorf("a node that stays silent was marked %d times, want once", n)
		}
		w.beat(fsm.MediaHandler, "mh", fsm.Healthy)
		w.expect(fsm.MediaHandler, "mh", fsm.Healthy)
		w.pass(staleAfter - oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Healthy)
		w.pass(2 * oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
	})
}

func TestMarkingThatFailedIsTriedAgainAfterAnotherPeriod(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.log.ready(registration{kind: fsm.MediaHandler, id: "mh"})
		w.lead()
		w.log.hook(func(*commandv1.Command, func() fsm.Result) (fsm.Result, error) {
			return fsm.Result{}, raftnode.ErrOverloaded
		})
		w.pass(staleAfter + oneSweep)
		w.pass(staleAfter / 2)
		if n := len(w.log.proposals(isMarkStale)); n != 1 {
			t.Fatalf("%d proposals within half a period, want 1", n)
		}
		w.log.hook(nil)
		w.expect(fsm.MediaHandler, "mh", fsm.Healthy)
		w.pass(staleAfter / 2)
		w.pass(2 * oneSweep)
		w.expect(fsm.MediaHandler, "mh", fsm.Unhealthy)
	})
}

func TestMarkingIsBoundedAndGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		const nodes = 2*maxMarking + 10
		for i := range nodes {
			w.log.ready(registration{kind: fsm.MediaHandler, id: nodeID("mh", i)})
		}
		w.lead()
		var under, most atomic.Int32
		w.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
			n := under.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(10 * time.Millisecond)
			under.Add(-1)
			return apply(), nil
		})
		w.pass(staleAfter + oneSweep)
		if got := most.Load(); got != maxMarking {
			t.Errorf("%d were marked at once, want %d", got, maxMarking)
		}
		for i := range nodes {
			w.expect(fsm.MediaHandler, nodeID("mh", i), fsm.Unhealthy)
		}
	})
}

func TestHearingOfAStrangerIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		w.lead()
		w.assigner.Heard(reportOf(fsm.MediaHandler, "never registered"))
		w.pass(staleAfter + oneSweep)
		silence := w.assigner.desk.Load().silence
		silence.mu.Lock()
		defer silence.mu.Unlock()
		if len(silence.nodes) != 0 || silence.order.Len() != 0 {
			t.Errorf("%d strangers are still watched", len(silence.nodes))
		}
		if n := len(w.log.proposals(isMarkStale)); n != 0 {
			t.Errorf("%d proposals about a stranger", n)
		}
	})
}

func TestEndedAssignmentsGoWhenTheirTimeIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T, w *watch) {
		const ended = pruneBatch + 200
		for i := range uint64(ended) {
			w.log.place(t, nodeID("m", int(i)), i+1, "mc", "mh")
			w.log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: nodeID("m", int(i)), Region: "eu"}}})
		}
		w.log.place(t, "live", ended+1, "mc", "mh")
		w.lead()
		count := func() (c fsm.Counts) {
			w.log.machine.View(func(s *fsm.State) { c = s.Counts() })
			return c
		}
		w.pass(time.Hour - time.Minute)
		if n := count().EndedAssignments; n != ended {
			t.Errorf("%d ended assignments are left before their time is over, want %d", n, ended)
		}
		failed := false
		w.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
			if !failed {
				failed = true
				return fsm.Result{}, errors.New("not now")
			}
			return apply(), nil
		})
		w.pass(3 * time.Minute)
		if c := count(); c.EndedAssignments != 0 || c.LiveAssignments != 1 {
			t.Errorf("%+v are left, want the live one alone", c)
		}
		for _, cmd := range w.log.proposals(func(cmd *commandv1.Command) bool { return cmd.GetPruneEnded() != nil }) {
			if got := cmd.GetPruneEnded().Limit; got == 0 || got > 1000 {
				t.Errorf("a batch of %d, want at most 1000", got)
			}
		}
	})
}
