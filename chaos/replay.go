package chaos

import (
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// replay applies the whole log once more, one entry at a time, and keeps what it did. It goes on
// from round to round.
type replay struct {
	machine *fsm.Machine
	entries int
	// created are the assignments by token, and ended says which of them were ended, how often.
	created map[uint64]*creation
	ended   map[uint64]int
	endedBy map[uint64]uint64 // the calls that ended them
	// versions is how the live assignment of each meeting changed.
	versions map[fsm.MeetingKey][]version
	last     map[fsm.MeetingKey]uint64 // the greatest token
	nodes    map[string]*fsm.Node      // as they stand
	// reports counts how often each report and registration of an MH took effect, and where last.
	reports map[reportKey]*effect
	marks   []mark
	// hashes are of the indexes in wanted.
	wanted map[uint64]bool
	hashes map[uint64]string
}

// creation is an assignment as it was committed.
type creation struct {
	index     uint64
	key       fsm.MeetingKey
	placement Placement
	times     int
}

// version is the live assignment of a meeting from an index on; none when it is nil.
type version struct {
	index uint64
	live  *Placement
}

type reportKey struct {
	node     string
	seq      uint32
	register bool
}

type effect struct {
	index uint64
	times int
}

// mark is a node that was called stale.
type mark struct {
	node  string
	index uint64
}

func newReplay() *replay {
	return &replay{
		machine: fsm.NewMachine(nil), created: make(map[uint64]*creation), ended: make(map[uint64]int), endedBy: make(map[uint64]uint64),
		versions: make(map[fsm.MeetingKey][]version), last: make(map[fsm.MeetingKey]uint64),
		nodes: make(map[string]*fsm.Node), reports: make(map[reportKey]*effect),
		wanted: make(map[uint64]bool), hashes: make(map[uint64]string),
	}
}

// forget drops what only the checks of one round need.
func (r *replay) forget() {
	clear(r.created)
	clear(r.ended)
	clear(r.endedBy)
	clear(r.versions)
	clear(r.reports)
	clear(r.wanted)
	clear(r.hashes)
	r.marks = nil
}

// read applies what a stopped replica has in its log, up to an index that is known to be committed.
func (r *replay) read(dataDir string, kind raftnode.LogStoreKind, until uint64, bad func(rule, format string, args ...any)) (err error) {
	folder, err := raftnode.Inspect(dataDir, kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	snapshot, err := folder.Snapshot()
	if err != nil {
		return err
	}
	if snapshot != nil && (snapshot.Index() < r.machine.Index() || snapshot.Index() > until) {
		snapshot = nil // compared when it was new, or newer than what is known to be committed
	}
	var index uint64
	var atSnapshot string
	if snapshot != nil {
		snapshot.View(func(s *fsm.State) { index, atSnapshot = s.Index(), s.Hash() })
		r.wanted[index] = true
	}
	err = folder.Entries(r.machine.Index()+1, func(e fsm.Entry) error {
		if e.Index > until {
			return nil
		}
		if err := r.apply(e, bad); err != nil {
			return err
		}
		if snapshot != nil && e.Index > index {
			if _, err := snapshot.Apply([]fsm.Entry{e}); err != nil {
				return fmt.Errorf("after the snapshot: %w", err)
			}
		}
		if snapshot != nil && e.Index == index && r.hashes[e.Index] != atSnapshot {
			bad("snapshot", "the snapshot at index %d has hash %s, the log up to there %s", e.Index, atSnapshot, r.hashes[e.Index])
		}
		return nil
	})
	if err != nil || snapshot == nil {
		return err
	}
	var whole, onTop string
	r.machine.View(func(s *fsm.State) { whole = s.Hash() })
	snapshot.View(func(s *fsm.State) { onTop = s.Hash() })
	if whole != onTop {
		bad("snapshot and rest", "at index %d the snapshot with the rest of the log has hash %s, the whole log %s", r.machine.Index(), onTop, whole)
	}
	return nil
}

// apply applies one entry and notes what it did.
func (r *replay) apply(e fsm.Entry, bad func(rule, format string, args ...any)) error {
	results, err := r.machine.Apply([]fsm.Entry{e})
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	r.entries++
	if e.Data != nil {
		entry, err := fsm.DecodeEntry(e.Data)
		if err != nil {
			return fmt.Errorf("replay entry %d: %w", e.Index, err)
		}
		for i, cmd := range entry.Commands {
			r.command(e.Index, cmd, results[0][i], bad)
		}
		r.compareLive(e.Index, entry, bad)
	}
	if r.wanted[e.Index] {
		r.machine.View(func(s *fsm.State) { r.hashes[e.Index] = s.Hash() })
	}
	return nil
}

func (r *replay) command(index uint64, cmd *commandv1.Command, result fsm.Result, bad func(rule, format string, args ...any)) {
	switch op := cmd.Op.(type) {
	case *commandv1.Command_Assign:
		if result.Outcome == fsm.Applied {
			r.assign(index, op.Assign, bad)
		}
	case *commandv1.Command_End:
		if result.Outcome == fsm.Applied {
			r.end(index, op.End, bad)
		}
	case *commandv1.Command_RegisterNode:
		r.heard(result.Node, index, reportKey{op.RegisterNode.Id, registrationSeq(op.RegisterNode), true})
	case *commandv1.Command_ReportLoad:
		if result.Outcome == fsm.Applied && op.ReportLoad.Kind == fsm.MediaHandler {
			r.heard(result.Node, index, reportKey{op.ReportLoad.Id, op.ReportLoad.GetUsage().GetUsed(), false})
		}
	case *commandv1.Command_MarkStale:
		if result.Outcome == fsm.Applied {
			r.marks = append(r.marks, mark{op.MarkStale.Id, index})
		}
	}
	if result.Node != nil {
		r.nodes[result.Node.ID] = result.Node
	}
}

// heard counts a report, or a registration, that took effect with this entry.
func (r *replay) heard(node *fsm.Node, index uint64, key reportKey) {
	if node == nil || node.HeardIndex != index {
		return
	}
	if r.reports[key] == nil {
		r.reports[key] = new(effect)
	}
	r.reports[key].times++
	r.reports[key].index = index
}

func registrationSeq(cmd *commandv1.RegisterNode) (seq uint32) {
	_, _ = fmt.Sscanf(cmd.WebtransportEndpoint, "https://"+cmd.Id+".r%d.invalid", &seq) // 0: an MC's
	return seq
}

// assign holds a new assignment to the rules, whatever the state machine thinks of them.
func (r *replay) assign(index uint64, cmd *commandv1.Assign, bad func(rule, format string, args ...any)) {
	key := fsm.MeetingKey{Region: cmd.Region, MeetingID: cmd.MeetingId}
	made := Placement{Token: cmd.FencingToken, MC: cmd.McId}
	for _, mh := range cmd.MediaHandlers {
		made.MHs = append(made.MHs, mh.Id)
	}
	live := r.liveAt(key, index)
	if live != nil && live.Token == made.Token {
		if !samePlacement(live, &made) {
			bad("one tuple a token", "entry %d assigns %v to %v, which has %v", index, made, key, *live)
		}
		return // the same entry again
	}
	if made.Token <= r.last[key] {
		bad("tokens rise", "entry %d assigns %v with token %d after %d", index, key, made.Token, r.last[key])
	}
	if live != nil {
		if live.Token != cmd.ExpectToken {
			bad("one live assignment", "entry %d assigns %v with token %d while %d is live", index, key, made.Token, live.Token)
		}
		if mc := r.nodes[live.MC]; mc != nil && mc.Health != fsm.Unhealthy && mc.Incarnation == cmd.ExpectMcIncarnation && cmd.ReplaceReason == "controller_unhealthy" {
			bad("no move without cause", "entry %d moves %v from %s, which is %v", index, key, live.MC, mc.Health)
		}
	}
	if c := r.created[made.Token]; c != nil {
		c.times++
	} else {
		r.created[made.Token] = &creation{index: index, key: key, placement: made, times: 1}
	}
	r.last[key] = made.Token
	r.versions[key] = append(r.versions[key], version{index, &made})
}

// end holds an end to the rule that it names the live assignment, or has named it before.
func (r *replay) end(index uint64, cmd *commandv1.End, bad func(rule, format string, args ...any)) {
	key := fsm.MeetingKey{Region: cmd.Region, MeetingID: cmd.MeetingId}
	live := r.liveAt(key, index)
	switch {
	case live == nil && cmd.FencingToken == r.last[key]:
		return // ended again
	case cmd.RequestId != 0 && r.endedBy[cmd.FencingToken] == cmd.RequestId:
		return // the same call again, whatever has become of the meeting
	case live == nil || (cmd.FencingToken != 0 && cmd.FencingToken != live.Token):
		bad("ends are fenced", "entry %d ends %v with token %d, while %v is live", index, key, cmd.FencingToken, live)
		if live == nil {
			return
		}
	}
	r.ended[live.Token]++
	r.endedBy[live.Token] = cmd.RequestId
	r.versions[key] = append(r.versions[key], version{index, nil})
}

// compareLive holds the state machine's live assignments to what the rules make of the log.
func (r *replay) compareLive(index uint64, entry *commandv1.Entry, bad func(rule, format string, args ...any)) {
	for _, cmd := range entry.Commands {
		var key fsm.MeetingKey
		switch op := cmd.Op.(type) {
		case *commandv1.Command_Assign:
			key = fsm.MeetingKey{Region: op.Assign.Region, MeetingID: op.Assign.MeetingId}
		case *commandv1.Command_End:
			key = fsm.MeetingKey{Region: op.End.Region, MeetingID: op.End.MeetingId}
		default:
			continue
		}
		want := r.liveAt(key, index)
		var have *fsm.Assignment
		r.machine.View(func(s *fsm.State) { have = s.LiveAssignment(key) })
		if (want == nil) != (have == nil) || (want != nil && want.Token != have.Token) {
			bad("live assignment", "after entry %d %v has %v, the rules make %v of the log", index, key, have, want)
		}
	}
}

// liveAt is the live assignment of a meeting after an entry.
func (r *replay) liveAt(key fsm.MeetingKey, index uint64) *Placement {
	versions := r.versions[key]
	for i := len(versions) - 1; i >= 0; i-- {
		if versions[i].index <= index {
			return versions[i].live
		}
	}
	return nil
}

func samePlacement(a, b *Placement) bool {
	return a.Token == b.Token && a.MC == b.MC && slices.Equal(a.MHs, b.MHs)
}
