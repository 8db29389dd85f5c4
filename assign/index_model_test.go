package assign

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// indexModel is what an Index must do, done by scanning and sorting everything.
type indexModel struct {
	log     *fakeLog
	pending map[nodeKey]uint32
	aside   map[nodeKey]uint64
}

func (m *indexModel) load(n *fsm.Node) float64 {
	load := float64(n.Used) / float64(n.Capacity)
	if n.Kind == fsm.MediaHandler {
		load = max(load, float64(n.CPUPercent)/100, float64(n.BandwidthPercent)/100)
	}
	coming := m.pending[nodeKey{n.Kind, n.ID}]
	for _, p := range n.Placements {
		coming += p.Count
	}
	return load + float64(coming)/float64(n.Capacity)
}

func (m *indexModel) best(q Query) []string {
	var all []*fsm.Node
	m.log.machine.Snapshot().Nodes(q.Kind, "", func(n *fsm.Node) bool {
		switch {
		case n.Region != q.Region, slices.Contains(q.Exclude, n.ID),
			q.AvoidZone != nil && n.Zone == *q.AvoidZone,
			n.Health != fsm.Healthy && n.Health != fsm.Degraded,
			n.Used >= n.Capacity,
			m.aside[nodeKey{n.Kind, n.ID}] == n.HeardIndex:
		default:
			all = append(all, n)
		}
		return true
	})
	slices.SortFunc(all, func(a, b *fsm.Node) int {
		return cmp.Or(cmp.Compare(m.load(a), m.load(b)), cmp.Compare(b.LastReportMs, a.LastReportMs), cmp.Compare(a.ID, b.ID))
	})
	var ids []string
	for _, n := range all[:min(len(all), 5)] {
		ids = append(ids, n.ID)
	}
	return ids
}

func TestIndexAgreesWithScanAndSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := NewIndex()
		log := newFakeLog(x)
		now := int64(100_000)
		log.stampMs = func() int64 { return now }
		model := &indexModel{log: log, pending: make(map[nodeKey]uint32), aside: make(map[nodeKey]uint64)}
		var known, reserved []*fsm.Node
		var tokens uint64

		kind := rapid.SampledFrom([]fsm.Kind{fsm.MediaHandler, fsm.MeetingController})
		id := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("n-%d", rapid.IntRange(0, 11).Draw(t, "id")) })
		region := rapid.SampledFrom([]string{"eu", "eu", "eu", "us"})
		zone := rapid.SampledFrom([]string{"a", "b", ""})
		query := func(t *rapid.T) Query {
			q := Query{Kind: kind.Draw(t, "kind"), Region: region.Draw(t, "region"), PreferredZone: zone.Draw(t, "preferred")}
			if rapid.Bool().Draw(t, "avoid") {
				avoid := zone.Draw(t, "avoided")
				q.AvoidZone = &avoid
			}
			q.Exclude = rapid.SliceOfN(id, 0, 2).Draw(t, "exclude")
			return q
		}
		heard := func(n *fsm.Node) {
			if n != nil {
				known = append(known, n)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				heard(log.register(registration{kind: kind.Draw(t, "kind"), id: id.Draw(t, "id"), region: region.Draw(t, "region"),
					zone: zone.Draw(t, "zone"), capacity: uint32(rapid.IntRange(1, 20).Draw(t, "capacity"))}))
			},
			"report": func(t *rapid.T) {
				now += int64(rapid.IntRange(0, 3000).Draw(t, "later"))
				health := rapid.SampledFrom([]fsm.Health{fsm.Healthy, fsm.Healthy, fsm.Degraded, fsm.Unhealthy, fsm.Draining})
				heard(log.commit(&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: &commandv1.ReportLoad{
					Kind: kind.Draw(t, "kind"), Id: id.Draw(t, "id"), Health: health.Draw(t, "health"),
					Usage:      &commandv1.Usage{Used: uint32(rapid.IntRange(0, 20).Draw(t, "used"))},
					CpuPercent: float32(rapid.IntRange(0, 100).Draw(t, "cpu")),
				}}})[0].Node)
			},
			"place": func(t *rapid.T) {
				tokens++
				log.commit(&commandv1.Command{Op: &commandv1.Command_Assign{Assign: &commandv1.Assign{
					MeetingId: fmt.Sprint(tokens), Region: "eu", FencingToken: 1<<40 | tokens, McId: id.Draw(t, "mc"),
					MediaHandlers: []*commandv1.MediaHandlerRef{{Id: id.Draw(t, "mh")}},
				}}})
			},
			"end": func(t *rapid.T) {
				log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{
					MeetingId: fmt.Sprint(rapid.Uint64Range(0, tokens).Draw(t, "meeting")), Region: "eu",
				}}})
			},
			"choose": func(t *rapid.T) {
				q := query(t)
				want := model.best(q)
				got := x.Choose(q)
				if (got == nil) != (len(want) == 0) || (got != nil && !slices.Contains(want, got.ID)) {
					t.Fatalf("chose %q of %v", idOf(got), want)
				}
				if got != nil {
					model.pending[nodeKey{got.Kind, got.ID}]++
					reserved = append(reserved, got)
					known = append(known, got)
				}
			},
			"done": func(t *rapid.T) {
				if len(reserved) == 0 {
					t.Skip("nothing is reserved")
				}
				i := rapid.IntRange(0, len(reserved)-1).Draw(t, "which")
				n := reserved[i]
				reserved = slices.Delete(reserved, i, i+1)
				model.pending[nodeKey{n.Kind, n.ID}]--
				x.Done(n)
			},
			"set aside": func(t *rapid.T) {
				if len(known) == 0 {
					t.Skip("no node is known")
				}
				n := rapid.SampledFrom(known).Draw(t, "which") // as it was at some time
				key := nodeKey{n.Kind, n.ID}
				model.aside[key] = max(model.aside[key], n.HeardIndex)
				x.SetAside(n)
			},
			"reset": func(*rapid.T) { x.Reset(log.machine.Snapshot()) },
			"": func(t *rapid.T) {
				q := query(t)
				x.mu.Lock()
				best := x.shortlist(q)
				x.mu.Unlock()
				var got []string
				for _, r := range best {
					got = append(got, r.id)
				}
				if want := model.best(q); !slices.Equal(got, want) {
					t.Fatalf("the best of %+v are %v, want %v", q, got, want)
				}
			},
		})
	})
}
