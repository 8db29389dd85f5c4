package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Invariants are what must be true of every run, by number.
var Invariants = map[int]string{
	0:  "the harness itself works",
	1:  "joins, ends and linearizable reads are linearizable per meeting and region",
	2:  "every acknowledged write is in the log once; none applies twice",
	3:  "one live assignment a meeting and region at every index; tokens strictly rise",
	4:  "what was committed was accepted before, and is what the client was told",
	5:  "every acceptance that did not commit is released: no zombies",
	6:  "no node that reports is called stale; a silent one is",
	7:  "reads are of one state, and never go backwards at one replica",
	8:  "equal index, equal state on all replicas; snapshot and rest of the log equal the whole log",
	9:  "after healing writes resume, replicas catch up, and nothing leaks",
	10: "the cluster works before and after the faults",
}

// Violation is something that must not be.
type Violation struct {
	Invariant int           `json:"invariant"`
	Rule      string        `json:"rule"`
	At        time.Duration `json:"at"` // since the run began
	Detail    string        `json:"detail"`
}

// violations collects them. Its methods may be called from several goroutines.
type violations struct {
	mu    sync.Mutex
	list  []Violation
	count map[int]int
}

// maxShown bounds the violations that are kept of each invariant.
const maxShown = 10

func (v *violations) add(invariant int, rule string, at time.Duration, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.count == nil {
		v.count = make(map[int]int)
	}
	if v.count[invariant]++; v.count[invariant] <= maxShown {
		v.list = append(v.list, Violation{invariant, rule, at, fmt.Sprintf(format, args...)})
	}
}

func (v *violations) any() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.list) > 0
}

// Report is what came out of a run.
type Report struct {
	Seed      uint64        `json:"seed"`
	Replicas  int           `json:"replicas"`
	LogStore  string        `json:"log_store"`
	Took      time.Duration `json:"took"`
	Rounds    int           `json:"rounds"`
	Again     string        `json:"again"` // the command that runs the same again
	Artifacts string        `json:"artifacts,omitempty"`
	LeftOut   []string      `json:"left_out,omitempty"`

	Calls      map[Kind]map[Outcome]int `json:"calls"`
	Checked    int                      `json:"checked_by_porcupine"`
	Histories  int                      `json:"histories"`
	Entries    int                      `json:"log_entries"`
	Checks     map[int]int              `json:"checks"` // by invariant
	Injections []*Injection             `json:"injections"`
	Violations []Violation              `json:"violations"`
	Counts     map[int]int              `json:"violations_by_invariant"`
}

// OK says that there is no violation.
func (r *Report) OK() bool { return len(r.Violations) == 0 }

// Write prints the report for people.
func (r *Report) Write(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "chaos: seed %d, %d replicas (%s), %d rounds in %s\n", r.Seed, r.Replicas, r.LogStore, r.Rounds, r.Took.Round(time.Second))
	fmt.Fprintf(w, "\ncalls\tdone\trefused\tunknown\n")
	for _, kind := range slices.Sorted(maps.Keys(r.Calls)) {
		c := r.Calls[kind]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\n", kind, c[Done], c[Refused], c[Unknown])
	}
	r.writeFaults(w)
	fmt.Fprintf(w, "\ninvariant\tchecks\tviolations\n")
	for _, i := range slices.Sorted(maps.Keys(Invariants)) {
		fmt.Fprintf(w, "%d. %s\t%d\t%d\n", i, Invariants[i], r.Checks[i], r.Counts[i])
	}
	fmt.Fprintf(w, "\n%d operations of %d meetings checked by Porcupine, %d log entries replayed\n", r.Checked, r.Histories, r.Entries)
	for _, why := range r.LeftOut {
		fmt.Fprintf(w, "left out: %s\n", why)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(w, "\nVIOLATION of %d (%s) after %s: %s\n", v.Invariant, v.Rule, v.At.Round(time.Millisecond), v.Detail)
	}
	if r.Artifacts != "" {
		fmt.Fprintf(w, "\nkept in %s\n", r.Artifacts)
	}
	fmt.Fprintf(w, "the same again: %s\n", r.Again)
	return w.Flush()
}

// writeFaults prints the faults by kind, with the gaps of those that cost a leader.
func (r *Report) writeFaults(w io.Writer) {
	byFault := make(map[string][]time.Duration)
	total := make(map[string]int)
	for _, i := range r.Injections {
		total[i.Fault]++
		if i.Gap > 0 {
			byFault[i.Fault] = append(byFault[i.Fault], i.Gap)
		}
	}
	fmt.Fprintf(w, "\n%d faults of %d kinds\tcount\twrites resumed after: median\tp99\tmax\n", len(r.Injections), len(total))
	for _, name := range slices.Sorted(maps.Keys(total)) {
		gaps := byFault[name]
		if len(gaps) == 0 {
			fmt.Fprintf(w, "%s\t%d\n", name, total[name])
			continue
		}
		slices.Sort(gaps)
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", name, total[name], quantile(gaps, 0.5), quantile(gaps, 0.99), quantile(gaps, 1))
	}
}

// quantile is of sorted times, by nearest rank.
func quantile(sorted []time.Duration, q float64) time.Duration {
	rank := int(q*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1].Round(time.Millisecond)
}

// save writes the report into a folder, for people and for programs.
func (r *Report) save(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	var text strings.Builder
	if err := r.Write(&text); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.txt"), []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
