package fsm

import (
	"maps"
	"slices"
)

// checkInvariants holds the tables, the indexes and the running totals of a state against each
// other. What was counted along must be what counting from the start gives.
func checkInvariants(t failer, s *State) {
	t.Helper()
	checkNodes(t, s)
	checkAssignments(t, s)
	checkEnded(t, s)
	checkTotals(t, s)
}

func checkNodes(t failer, s *State) {
	t.Helper()
	for _, n := range nodesOf(s) {
		switch {
		case s.Node(n.Kind, n.ID) != n:
			t.Fatalf("node %q is not found under its id", n.ID)
		case n.Incarnation > n.HeardIndex || n.HeardIndex > s.index:
			t.Fatalf("node %q: incarnation %d, heard at %d, applied %d", n.ID, n.Incarnation, n.HeardIndex, s.index)
		case len(n.Placements) > maxPlacements:
			t.Fatalf("node %q has %d placement buckets", n.ID, len(n.Placements))
		}
		for i, p := range n.Placements {
			if p.Count == 0 || i > 0 && n.Placements[i-1].UnixSeconds >= p.UnixSeconds {
				t.Fatalf("node %q has the placements %v", n.ID, n.Placements)
			}
		}
	}
}

func checkAssignments(t failer, s *State) {
	t.Helper()
	s.live.Scan(func(i liveItem) bool {
		a := i.a
		if i.key != a.MeetingKey || !a.Live() || a.EndReason != "" {
			t.Fatalf("live under %v: %+v", i.key, a)
		}
		if s.LiveAssignment(a.MeetingKey) != a {
			t.Fatalf("%+v is not found under its key", a)
		}
		if indexed, ok := s.liveByMC.Get(a); !ok || indexed != a {
			t.Fatalf("%+v is not indexed by its MC", a)
		}
		if last := s.LastEnded(a.MeetingKey); last != nil && last.Token >= a.Token {
			t.Fatalf("token %d is live after token %d ended", a.Token, last.Token)
		}
		return true
	})
	if s.live.Len() != s.liveByMC.Len() {
		t.Fatalf("%d live, %d indexed by MC", s.live.Len(), s.liveByMC.Len())
	}
	if l := s.lookup; l != nil && (len(l.live) != s.live.Len() || len(l.mhs) != s.mhs.Len() || len(l.mcs) != s.mcs.Len()) {
		t.Fatalf("%d live, %d MHs, %d MCs are looked up; there are %d, %d, %d", len(l.live), len(l.mhs), len(l.mcs), s.live.Len(), s.mhs.Len(), s.mcs.Len())
	}
}

func checkEnded(t failer, s *State) {
	t.Helper()
	s.ended.Scan(func(a *Assignment) bool {
		if a.Live() {
			t.Fatalf("kept as ended: %+v", a)
		}
		if indexed, ok := s.endedByTime.Get(a); !ok || indexed != a {
			t.Fatalf("%+v is not indexed by its end", a)
		}
		return true
	})
	if s.ended.Len() != s.endedByTime.Len() {
		t.Fatalf("%d ended, %d indexed by their end", s.ended.Len(), s.endedByTime.Len())
	}
}

func checkTotals(t failer, s *State) {
	t.Helper()
	fresh := newCensus()
	var total sum
	s.members.Scan(func(_ string, m *Member) bool {
		total = total.add(m.digest())
		return true
	})
	for _, n := range nodesOf(s) {
		total = total.add(n.digest())
		fresh.node(n, 1)
	}
	s.Assignments(Cursor{}, "", "", true, func(a *Assignment) bool {
		total = total.add(a.digest())
		if a.Live() {
			fresh.live(a, 1)
		}
		return true
	})
	if total != s.recordsTotal {
		t.Fatalf("the running hash is %x, the records give %x", s.recordsTotal, total)
	}
	if s.census.nodes == nil { // a copy for reading
		return
	}
	nodes, alive := newCensus().nodes, newCensus().alive
	s.NodeCensus(func(key CensusKey, count int) { nodes[key] = count })
	s.LiveCensus(func(region string, count int) { alive[region] = count })
	maps.DeleteFunc(nodes, func(_ CensusKey, count int) bool { return count == 0 })
	maps.DeleteFunc(alive, func(_ string, count int) bool { return count == 0 })
	if !maps.Equal(nodes, fresh.nodes) || !maps.Equal(alive, fresh.alive) {
		t.Fatalf("census %v %v, the records give %v %v", nodes, alive, fresh.nodes, fresh.alive)
	}
}

// everyAssignment is all assignments of a state by region, meeting and token, sorted here.
func everyAssignment(s *State) []*Assignment {
	all := s.ended.Items()
	s.live.Scan(func(i liveItem) bool {
		all = append(all, i.a)
		return true
	})
	slices.SortFunc(all, func(a, b *Assignment) int {
		if byToken(a, b) {
			return -1
		}
		return 1
	})
	return all
}
