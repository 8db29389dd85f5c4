package assign

import (
	"fmt"
	"slices"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// FuzzIndex reads the bytes as what happens to a fleet. Whatever it is, a choice is one that a scan
// of all nodes would make, of a node that can be used, and nothing in flight is forgotten or
// counted below zero.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{})
	fleet := []byte{0}
	for i := range byte(8) {
		fleet = append(fleet, 0, i%2, i, 0, i%3, 9, 1, i%2, i, 0, 1, 3, 10*i) // register, report
	}
	f.Add(slices.Concat(fleet, []byte{4, 0, 0, 0, 0, 0, 0, 5, 0, 0, 6, 0, 7, 0, 8, 2, 3, 1}))
	f.Add(slices.Concat(fleet, slices.Repeat([]byte{5, 0, 1, 2, 1, 3, 7, 0}, 12), []byte{8, 6, 0, 6, 0}))
	f.Fuzz(func(t *testing.T, script []byte) {
		b := newIndexBench(script)
		for range 120 {
			if len(b.script) == 0 {
				break
			}
			b.step(t)
			b.check(t)
		}
		for len(b.reserved) > 0 {
			b.done(0)
		}
		b.check(t)
	})
}

// indexBench is an index, its model, and the nodes that the leader has reserved or heard of.
type indexBench struct {
	script   []byte
	index    *Index
	log      *fakeLog
	model    *indexModel
	nowMs    int64
	tokens   uint64
	known    []*fsm.Node
	reserved []*fsm.Node
}

func newIndexBench(script []byte) *indexBench {
	b := &indexBench{script: script, index: NewIndex(), nowMs: 100_000}
	b.log = newFakeLog(b.index)
	b.log.stampMs = func() int64 { return b.nowMs }
	b.model = &indexModel{log: b.log, pending: make(map[nodeKey]uint32), aside: make(map[nodeKey]uint64)}
	return b
}

// choose returns a number from 0 to n-1.
func (b *indexBench) choose(n int) int {
	if len(b.script) == 0 {
		return 0
	}
	choice := int(b.script[0]) % n
	b.script = b.script[1:]
	return choice
}

func (b *indexBench) kind() fsm.Kind { return fsm.MediaHandler + fsm.Kind(b.choose(2)) }
func (b *indexBench) id() string     { return fmt.Sprintf("n-%d", b.choose(10)) }
func (b *indexBench) region() string { return []string{"eu", "eu", "us"}[b.choose(3)] }
func (b *indexBench) zone() string   { return []string{"a", "b", ""}[b.choose(3)] }

func (b *indexBench) step(t *testing.T) {
	switch b.choose(9) {
	case 0:
		b.learn(b.log.register(registration{kind: b.kind(), id: b.id(), region: b.region(), zone: b.zone(), capacity: uint32(1 + b.choose(20))}))
	case 1:
		b.nowMs += int64(b.choose(4)) * 700
		b.report()
	case 2:
		b.tokens++
		b.log.commit(placement(t, b.log.term, fmt.Sprint(b.tokens), b.tokens, b.id(), b.id(), b.id()))
	case 3:
		b.log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{
			MeetingId: fmt.Sprint(b.choose(int(b.tokens) + 1)), Region: "eu"}}})
	case 4:
		q := Query{Kind: b.kind(), Region: b.region(), PreferredZone: b.zone(), Exclude: []string{b.id()}}
		if b.choose(2) == 0 {
			q.AvoidZone = new(b.zone())
		}
		want := b.model.best(q)
		b.chosen(t, b.index.Choose(q), want)
	case 5:
		b.chooseBoth(t)
	case 6:
		if len(b.reserved) > 0 {
			b.done(b.choose(len(b.reserved)))
		}
	case 7:
		if len(b.known) > 0 { // as it was at some time
			n := b.known[b.choose(len(b.known))]
			key := nodeKey{n.Kind, n.ID}
			b.model.aside[key] = max(b.model.aside[key], n.HeardIndex)
			b.index.SetAside(n)
		}
	case 8:
		b.index.Reset(b.log.machine.Snapshot())
	}
}

func (b *indexBench) learn(n *fsm.Node) {
	if n != nil {
		b.known = append(b.known, n)
	}
}

func (b *indexBench) report() {
	b.learn(b.log.commit(&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
		Kind: b.kind(), Id: b.id(), Health: fsm.Health(b.choose(5)),
		Usage:      &commandv1.Usage{Used: uint32(b.choose(20))},
		CpuPercent: float32(b.choose(101)),
	}}})[0].Node)
}

// chooseBoth draws media handlers as a placement does: the backup is another node, and in another
// zone when one there can be chosen.
func (b *indexBench) chooseBoth(t *testing.T) {
	region := b.region()
	q := Query{Kind: fsm.MediaHandler, Region: region}
	firsts := b.model.best(q)
	got := b.index.chooseMediaHandlers(region, b.zone())
	if len(got) == 0 {
		b.chosen(t, nil, firsts)
		return
	}
	b.chosen(t, got[0], firsts)
	q.Exclude, q.AvoidZone = []string{got[0].ID}, &got[0].Zone
	seconds := b.model.best(q)
	if len(seconds) == 0 {
		q.AvoidZone = nil
		seconds = b.model.best(q)
	}
	if len(got) == 1 {
		b.chosen(t, nil, seconds)
		return
	}
	b.chosen(t, got[1], seconds)
}

// chosen holds a choice, and what it reserved, against what may be chosen.
func (b *indexBench) chosen(t *testing.T, got *fsm.Node, want []string) {
	if got == nil {
		if len(want) > 0 {
			t.Fatalf("nothing was chosen of %v", want)
		}
		return
	}
	if !slices.Contains(want, got.ID) {
		t.Fatalf("chose %q of %v", got.ID, want)
	}
	if got != b.log.node(got.Kind, got.ID) || !got.Selectable() {
		t.Fatalf("chose %+v, which is not as it stands or cannot be used", got)
	}
	b.model.pending[nodeKey{got.Kind, got.ID}]++
	b.reserved = append(b.reserved, got)
	b.learn(got)
}

func (b *indexBench) done(i int) {
	n := b.reserved[i]
	b.reserved = slices.Delete(b.reserved, i, i+1)
	b.model.pending[nodeKey{n.Kind, n.ID}]--
	b.index.Done(n)
}

// check holds the whole order, and all that is in flight, against the model.
func (b *indexBench) check(t *testing.T) {
	for _, kind := range []fsm.Kind{fsm.MediaHandler, fsm.MeetingController} {
		b.log.machine.Snapshot().Nodes(kind, "", func(n *fsm.Node) bool {
			if got, want := b.index.Pending(kind, n.ID), b.model.pending[nodeKey{kind, n.ID}]; got != want {
				t.Fatalf("%d meetings are being placed on %s, counted are %d", want, n.ID, got)
			}
			if int32(n.InFlight()) < 0 {
				t.Fatalf("%s has %d meetings in flight", n.ID, int32(n.InFlight()))
			}
			return true
		})
		for _, region := range []string{"eu", "us"} {
			q := Query{Kind: kind, Region: region}
			b.index.mu.Lock()
			best := b.index.shortlist(q)
			b.index.mu.Unlock()
			if want := b.model.best(q); !slices.EqualFunc(best, want, func(r ranked, id string) bool { return r.id == id }) {
				t.Fatalf("the best of %+v are %v, want %v", q, best, want)
			}
		}
	}
}
