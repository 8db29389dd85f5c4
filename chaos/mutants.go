package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Mutant is a known bug that the checks must catch. It is built by replacing text of the product's
// sources for one build (go build -overlay): the sources have no trace of it, and no other build
// can have it.
type Mutant struct {
	Name string
	Bug  string
	// Edits are made together.
	Edits []Edit
	// LogStore is the one that has the bug, any when it is empty.
	LogStore string
}

// Mutants are the known bugs.
var Mutants = []Mutant{
	{
		Name: "no-barrier", Bug: "a new leader serves before what earlier terms left is applied",
		Edits: []Edit{{"raftnode/leader.go", "err := n.proposeLead(ctx, term)", "var err error\n\t\tgo func() {\n\t\t\ttime.Sleep(200 * time.Millisecond)\n\t\t\t_ = n.proposeLead(ctx, term)\n\t\t}()"}},
	},
	{
		Name: "read-unconfirmed", Bug: "a linearizable read does not ask the others who leads",
		Edits: []Edit{{"raftnode/read.go", "for time.Since(began) < maxConfirm && n.Leading() == lead {", "if n.Leading() == lead {\n\t\treturn read, nil\n\t}\n\tfor time.Since(began) < maxConfirm && n.Leading() == lead {"}},
	},
	{
		Name: "read-index-reused", Bug: "a read index serves reads that came after it was taken",
		Edits: []Edit{
			{"raftnode/read.go", "lead := n.Leading()\n", "lead := n.Leading()\n\tif lead != nil && usedTerm == lead.Term && time.Since(usedAt) < 300*time.Millisecond {\n\t\treturn used, nil\n\t}\n"},
			{"raftnode/read.go", "return read, nil\n", "used, usedAt, usedTerm = read, began, lead.Term\n\t\t\treturn read, nil\n"},
			{"raftnode/read.go", "// maxConfirm bounds", "var (\n\tused     ReadIndex\n\tusedAt   time.Time\n\tusedTerm uint64\n)\n\n// maxConfirm bounds"},
		},
	},
	{
		Name: "commit-told-ahead", Bug: "heartbeats tell the commit index to who has another log",
		Edits: []Edit{
			{"raftnode/transport.go", "if have := t.stored[id]; have.term == heartbeat.Term {", "{"},
			{"raftnode/transport.go", "min(committed, have.index)", "committed"},
		},
	},
	{
		Name: "no-fsync", Bug: "the log is not synced to the disk", LogStore: "bolt",
		Edits: []Edit{{"raftnode/store.go", "Path: filepath.Join(dir, boltFile),", "Path: filepath.Join(dir, boltFile), NoSync: true,"}},
	},
	{
		Name: "acknowledged-before-written", Bug: "a leader acknowledges what only its followers have written",
		Edits: []Edit{{"raftnode/applier.go", "err := a.log.await(last); err != nil {", "err := a.log.await(0); err != nil {"}},
	},
	{
		Name: "write-retried", Bug: "a write that failed is tried again",
		Edits: []Edit{{"raftnode/store.go", "l.fatal(fmt.Errorf(\"write the Raft log: %w\", err))", "for err != nil {\n\t\t\ttime.Sleep(10 * time.Millisecond)\n\t\t\terr = l.LogStore.StoreLogs(entries)\n\t\t}"}},
	},
	{
		Name: "timers-kept", Bug: "a new leader gives nobody a new period of grace",
		Edits: []Edit{
			{"assign/silence.go", "grace:  now,", "grace:  now.Add(-after),"},
		},
	},
	{
		Name: "release-dropped", Bug: "orphaned acceptances are not released",
		Edits: []Edit{
			{"assign/desk.go", "release = append(release, h)", "_ = release"},
			{"assign/orphan.go", "\td.decided(token)\n\td.releaseInBackground(to, key, token, reason,", "\td.decided(token)\n\tif true {\n\t\treturn\n\t}\n\td.releaseInBackground(to, key, token, reason,"},
		},
	},
	{
		Name: "stale-end-applied", Bug: "an end with an old token ends what is live now",
		Edits: []Edit{{"fsm/apply_assignment.go", "case cmd.FencingToken != 0 && cmd.FencingToken != live.Token:", "case cmd.FencingToken == 1:"}},
	},
	{
		Name: "local-tokens", Bug: "tokens come from a counter of the process",
		Edits: []Edit{
			{"fsm/token.go", "return term<<tokenCounterBits | counter, nil", "return 1<<tokenCounterBits | counter, nil"},
			{"fsm/apply_assignment.go", "if TokenTerm(cmd.FencingToken) != a.term ||\n\t\ta.lastToken(key, live) >= cmd.FencingToken || !a.asExpected(live, cmd) {", "if !a.asExpected(live, cmd) {"},
		},
	},
	{
		Name: "map-order", Bug: "apply depends on the order of a map",
		Edits: []Edit{{"fsm/apply_assignment.go", "\tfor _, mh := range as.MediaHandlers {\n\t\ttouch(MediaHandler, mh.ID)\n\t}", "\tones := make(map[string]bool)\n\tfor _, mh := range as.MediaHandlers {\n\t\tones[mh.ID] = true\n\t}\n\tfor id := range ones {\n\t\ttouch(MediaHandler, id)\n\t\tbreak\n\t}"}},
	},
	{
		Name: "handlers-chosen-anew", Bug: "every join of a meeting chooses media handlers anew",
		Edits: []Edit{{"assign/desk.go", "p = Placement{Assignment: live, Index: s.Index()}", "again := *live\n\t\t\tif chosen := refs(d.index.chooseMediaHandlers(key.Region, \"\")); len(chosen) > 0 {\n\t\t\t\tagain.MediaHandlers = chosen\n\t\t\t}\n\t\t\tp = Placement{Assignment: &again, Index: s.Index()}"}},
	},
	{
		Name: "snapshot-forgets", Bug: "a snapshot leaves out why assignments ended",
		Edits: []Edit{
			{"fsm/record.go", "rec.EndReason = a.EndReason", "rec.EndReason = \"\""},
			{"fsm/restore.go", "if !bytes.Equal(t.StateHash, s.seal()) {", "if bytes.Equal(t.StateHash, nil) {"},
		},
	},
	{
		Name: "draining-moved", Bug: "an assignment stands only while its controller is exactly healthy",
		Edits: []Edit{
			{"assign/desk.go", "mc != nil && mc.Health != fsm.Unhealthy &&", "mc != nil && mc.Health == fsm.Healthy &&"},
			{"assign/place.go", "decided.mc != nil && decided.mc.Health != fsm.Unhealthy {", "decided.mc != nil && decided.mc.Health == fsm.Healthy {"},
		},
	},
	{
		Name: "ended-for-good", Bug: "a meeting that has ended is answered with its last assignment",
		Edits: []Edit{{"assign/desk.go", "if live := s.LiveAssignment(key); live != nil && stands(", "live := s.LiveAssignment(key)\n\t\tif live == nil {\n\t\t\tlive = s.LastEnded(key)\n\t\t}\n\t\tif live != nil && stands("}},
	},
}

// build builds the program with a mutant's edits.
func (m Mutant) build(ctx context.Context, root, dir string) (binary string, err error) {
	return Build(ctx, root, dir, m.Name, slices.Concat(m.Edits, instruments))
}

// Catch is how a mutant was caught.
type Catch struct {
	Mutant Mutant
	// By is the first violation; nil when the mutant got away.
	By    *Violation
	After time.Duration
}

// CatchMutant runs a mutant as the program under test until something is violated, for as long as
// the configuration says. Root is the product's module.
func CatchMutant(ctx context.Context, m Mutant, root string, c Config) (Catch, error) {
	dir, err := os.MkdirTemp("", "conclave-mutant-")
	if err != nil {
		return Catch{}, fmt.Errorf("make a folder for a mutant: %w", err)
	}
	defer os.RemoveAll(dir)
	if c.Binary, err = m.build(ctx, root, dir); err != nil {
		return Catch{}, err
	}
	c.Instrumented = true
	c.Dir = filepath.Join(dir, "run")
	if m.LogStore != "" {
		c.LogStore = m.LogStore
	}
	start := time.Now()
	report, err := Run(ctx, c)
	caught := Catch{Mutant: m, After: time.Since(start)}
	if report != nil && len(report.Violations) > 0 {
		caught.By = &report.Violations[0]
		return caught, nil // a run that broke down after a violation has caught it all the same
	}
	return caught, err
}
