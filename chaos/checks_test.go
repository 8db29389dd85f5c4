package chaos

import (
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// rig is a checker of a log that the test writes.
type rig struct {
	*checker
	t     *testing.T
	index uint64
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, checker: &checker{
		log: newReplay(), violations: new(violations), dir: t.TempDir(),
		report: &Report{Checks: make(map[int]int)},
	}}
	r.append(node(fsm.MeetingController, "mc"), report(fsm.MeetingController, "mc", 0), node(fsm.MediaHandler, "a"), report(fsm.MediaHandler, "a", 1))
	return r
}

func (r *rig) bad(rule, format string, args ...any) { r.violations.add(3, rule, 0, format, args...) }

// append adds an entry to the log. Its term is 1, and so is that of every token below.
func (r *rig) append(cmds ...*commandv1.Command) uint64 {
	r.t.Helper()
	r.index++
	data, err := fsm.EncodeEntry(&commandv1.Entry{StampUnixMs: int64(r.index), Commands: cmds})
	if err != nil {
		r.t.Fatal(err)
	}
	r.log.wanted[r.index] = true
	if err := r.log.apply(fsm.Entry{Index: r.index, Term: 1, Data: data}, r.bad); err != nil {
		r.t.Fatal(err)
	}
	return r.index
}

// want says which rules must be violated, by what was checked so far.
func (r *rig) want(rules ...string) {
	r.t.Helper()
	if len(r.violations.list) != len(rules) {
		r.t.Fatalf("violations %v, want those of %v", r.violations.list, rules)
	}
	for i, v := range r.violations.list {
		if v.Rule != rules[i] {
			r.t.Errorf("violation of %q (%s), want one of %q", v.Rule, v.Detail, rules[i])
		}
	}
}

const one = 1 << 40 // the first token of term 1 is above it

func node(kind fsm.Kind, id string) *commandv1.Command {
	return &commandv1.Command{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
		Kind: kind, Id: id, Region: "eu", Capacity: 10, RegistrationId: 1,
	}}}
}

func report(kind fsm.Kind, id string, seq uint32) *commandv1.Command {
	return &commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
		Kind: kind, Id: id, Health: fsm.Healthy, Usage: &commandv1.Usage{Used: seq},
	}}}
}

func assignment(token, expect uint64) *commandv1.Command {
	return &commandv1.Command{Op: &commandv1.Command_Assign{Assign: &commandv1.Assign{
		MeetingId: "m", Region: "eu", FencingToken: token, McId: "mc", McIncarnation: 1, ExpectToken: expect,
		MediaHandlers: []*commandv1.MediaHandlerRef{{Id: "a"}},
	}}}
}

func end(token uint64) *commandv1.Command {
	return &commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: "m", Region: "eu", FencingToken: token}}}
}

func told(kind Kind, token uint64, mhs ...string) *Call {
	return &Call{Kind: kind, Meeting: "m", Region: "eu", Outcome: Done, Found: &Placement{Token: token, MC: "mc", MHs: mhs}}
}

func TestAcknowledgedWritesAreInTheLogOnce(t *testing.T) {
	r := newRig(t)
	r.append(assignment(one+1, 0))
	r.append(end(one + 1))
	fine := told(KindJoin, one+1, "a")
	fine.Created = true
	r.calls = []*Call{
		fine, {Kind: KindEnd, Meeting: "m", Region: "eu", Token: one + 1, Outcome: Done},
		{Kind: KindReport, Node: "a", Seq: 1, Outcome: Done}, {Kind: KindReport, Node: "a", Seq: 9, Outcome: Unknown},
	}
	r.writes()
	r.want()

	r.calls = []*Call{
		told(KindJoin, one+5, "a"),
		{Kind: KindEnd, Meeting: "m", Region: "eu", Token: one + 5, Outcome: Done},
		{Kind: KindReport, Node: "a", Seq: 2, Outcome: Done},
		told(KindJoin, one+1, "b"),
		fine, fine,
	}
	r.append(report(fsm.MediaHandler, "a", 1)) // the first report once more
	r.calls = append(r.calls, &Call{Kind: KindReport, Node: "a", Seq: 1, Outcome: Done})
	r.writes()
	r.want("acknowledged joins", "acknowledged ends", "acknowledged reports", "told what was committed", "created once", "reports take effect once")
}

func TestReadsAreOfTheStateAtTheirIndex(t *testing.T) {
	r := newRig(t)
	made := r.append(assignment(one+1, 0))
	gone := r.append(end(one + 1))
	get := func(index uint64, found bool) *Call {
		c := told(KindGetStale, one+1, "a")
		c.Client, c.Replica, c.Index = "c", "gc-1", index
		if !found {
			c.Outcome, c.Reason, c.Found = Refused, "NO_ASSIGNMENT", nil
		}
		return c
	}
	r.calls = []*Call{get(made-1, false), get(made, true), get(gone, false)}
	r.reads()
	r.want()

	backwards := get(made, true)
	backwards.Min = gone
	r.calls = []*Call{get(gone, true), backwards}
	r.reads()
	r.want("reads are of the state at their index", "minimum index", "reads do not go backwards")
}

// The rules are held to the log itself, whatever the state machine makes of it.
func TestRulesOfTheLog(t *testing.T) {
	r := newRig(t)
	r.append(assignment(one+5, 0))
	r.log.assign(r.index, assignment(one+3, one+5).GetAssign(), r.bad)
	r.want("tokens rise")

	r = newRig(t)
	r.append(assignment(one+5, 0))
	r.log.assign(r.index, assignment(one+6, 0).GetAssign(), r.bad)
	r.want("one live assignment")

	r = newRig(t)
	r.append(assignment(one+5, 0))
	r.log.end(r.index, end(one+4).GetEnd(), r.bad)
	r.want("ends are fenced")

	r = newRig(t)
	again := end(one + 5)
	again.GetEnd().RequestId = 7
	r.append(assignment(one+5, 0))
	r.append(again)
	r.append(assignment(one+6, 0))
	r.append(again)
	r.want()
	again.GetEnd().RequestId = 8
	r.log.end(r.index, again.GetEnd(), r.bad)
	r.want("ends are fenced")

	r = newRig(t)
	r.append(assignment(one+5, 0))
	move := assignment(one+6, one+5).GetAssign()
	move.ReplaceReason, move.ExpectMcIncarnation = "controller_unhealthy", 1
	r.log.assign(r.index, move, r.bad)
	r.want("no move without cause")
}

func TestSilence(t *testing.T) {
	mark := func(heard uint64) *commandv1.Command {
		return &commandv1.Command{Op: &commandv1.Command_MarkStale{MarkStale: &commandv1.MarkStale{
			Kind: fsm.MediaHandler, Id: "a", HeardIndex: heard,
		}}}
	}
	call := func(seq uint32, at time.Duration) *Call {
		return &Call{Kind: KindReport, Node: "a", Seq: seq, Outcome: Done, Sent: at, Back: at + time.Millisecond}
	}
	for _, test := range []struct {
		name string
		gap  time.Duration
		want []string
	}{
		{"reported in time", staleAfter - time.Second, []string{"nodes that report are not stale"}},
		{"was silent", staleAfter + time.Second, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.append(mark(1))
			r.append(report(fsm.MediaHandler, "a", 2))
			r.calls = []*Call{call(1, time.Second), call(2, time.Second+test.gap)}
			r.silence()
			r.want(test.want...)
		})
	}
	r := newRig(t)
	r.silent([]string{"a"}, 0)
	r.want("silent nodes are marked")
}

func TestZombiesAndLostMeetings(t *testing.T) {
	r := newRig(t)
	r.append(assignment(one+1, 0))
	key := sim.Key{Meeting: "m", Region: "eu"}
	hosts := func(key sim.Key, token uint64) map[string]map[sim.Key]sim.Hosted {
		return map[string]map[sim.Key]sim.Hosted{"mc": {key: {Token: token}}}
	}
	r.zombies(hosts(key, one+1), 0)
	r.hosting(hosts(key, one+1), 0)
	r.want()
	r.zombies(hosts(key, one+2), 0)
	r.zombies(hosts(sim.Key{Meeting: "other", Region: "eu"}, one+1), 0)
	r.hosting(nil, 0)
	r.want("zombies", "zombies", "what is live is hosted")
}

func TestHashes(t *testing.T) {
	r := newRig(t)
	r.samples = []sample{{"gc-1", r.index, r.log.hashes[r.index]}, {"gc-2", r.index + 1, "not known to be committed"}}
	r.hashes()
	r.want()
	r.samples = []sample{{"gc-2", r.index, "another"}}
	r.hashes()
	r.want("equal hashes")
}

func TestGaps(t *testing.T) {
	write := func(replica string, sent, back int) *Call {
		return at(sent, back, Call{Kind: KindEnd, Replica: replica})
	}
	n := &nemesis{history: newHistory(time.Now()), injections: []*Injection{{On: "gc-1", Lost: 100 * time.Millisecond}}}
	for _, c := range []*Call{
		write("gc-2", 80, 90), write("gc-1", 95, 99), write("gc-2", 98, 150), write("gc-1", 200, 210), write("gc-3", 300, 320), write("gc-2", 310, 330),
	} {
		n.history.add(c)
	}
	n.measureGaps()
	if got, want := n.injections[0].Gap, 230*time.Millisecond; got != want {
		t.Errorf("gap %v, want %v: from the last answer before to the first to a call after, not through gc-1", got, want)
	}
}
