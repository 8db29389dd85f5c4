package fsm

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/tidwall/btree"
)

// Member is a replica that has announced itself.
type Member struct {
	ID             string
	GRPCAddress    string
	CommandVersion uint32

	sum sum
}

// State is everything that is replicated, with the indexes to find it again. The tables are
// copy-on-write B-trees, so that a copy for a snapshot costs the same at any size. A State has
// no lock: Machine guards it.
type State struct {
	index   uint64 // Raft index of the last entry applied
	term    uint64 // Raft term of that entry
	stampMs int64  // state time: the greatest stamp so far
	leader  string // node id of the last replica that led

	members *btree.Map[string, *Member]
	mhs     *btree.Map[string, *Node]
	mcs     *btree.Map[string, *Node]

	live         *btree.BTreeG[liveItem]
	liveByMC     *btree.BTreeG[*Assignment]
	ended        *btree.BTreeG[*Assignment] // by meeting and token
	endedByTime  *btree.BTreeG[*Assignment]
	lookup       *lookup // nil in a copy
	census       census
	recordsTotal sum // sum of every record's sum: the state hash
}

// lookup finds by key what the trees hold, without their comparisons of strings that all begin
// alike. It is derived from them, and neither hashed nor kept in snapshots; a copy has none and looks
// in the trees.
type lookup struct {
	mhs, mcs map[string]*Node
	live     map[MeetingKey]*Assignment
}

func newLookup() *lookup {
	return &lookup{make(map[string]*Node), make(map[string]*Node), make(map[MeetingKey]*Assignment)}
}

func (l *lookup) nodes(kind Kind) map[string]*Node {
	if kind == MediaHandler {
		return l.mhs
	}
	return l.mcs
}

// liveItem carries its key by value, so that a look-up needs no Assignment to compare with.
type liveItem struct {
	key MeetingKey
	a   *Assignment
}

// NewState returns the empty state.
func NewState() *State {
	assignments := func(less func(a, b *Assignment) bool) *btree.BTreeG[*Assignment] {
		return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
	}
	return &State{
		members: new(btree.Map[string, *Member]),
		mhs:     new(btree.Map[string, *Node]),
		mcs:     new(btree.Map[string, *Node]),
		live: btree.NewBTreeGOptions(
			func(a, b liveItem) bool { return a.key.Compare(b.key) < 0 },
			btree.Options{NoLocks: true}),
		liveByMC:    assignments(byController),
		ended:       assignments(byToken),
		endedByTime: assignments(byEnd),
		lookup:      newLookup(),
		census:      newCensus(),
	}
}

// copy returns a copy for reading, in constant time. Lookup and census stay behind.
func (s *State) copy() *State {
	c := *s
	c.members, c.mhs, c.mcs = s.members.Copy(), s.mhs.Copy(), s.mcs.Copy()
	c.live, c.liveByMC = s.live.Copy(), s.liveByMC.Copy()
	c.ended, c.endedByTime = s.ended.Copy(), s.endedByTime.Copy()
	c.lookup, c.census = nil, census{}
	return &c
}

// Index is the Raft index of the last entry applied.
func (s *State) Index() uint64 { return s.index }

// Term is the Raft term of the last entry applied: everything that earlier terms proposed is
// decided.
func (s *State) Term() uint64 { return s.term }

// TimeMs is the state time in Unix milliseconds; it never runs backwards.
func (s *State) TimeMs() int64 { return s.stampMs }

// Leader is the node id of the replica that last began to lead.
func (s *State) Leader() string { return s.leader }

// Hash is the state hash in hex.
func (s *State) Hash() string { return hex.EncodeToString(s.hash()) }

func (s *State) hash() []byte {
	own := encoder(nil).i64(s.stampMs).str(s.leader).sum()
	total := s.recordsTotal.add(own)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, total[0]), total[1])
}

// Member returns an announced replica, nil when there is none.
func (s *State) Member(id string) *Member {
	m, _ := s.members.Get(id)
	return m
}

// Node returns a registered node, nil when there is none.
func (s *State) Node(kind Kind, id string) *Node {
	if s.lookup != nil {
		return s.lookup.nodes(kind)[id]
	}
	n, _ := s.nodes(kind).Get(id)
	return n
}

// Nodes calls yield for every node of a kind in the order of ids, beginning after the id given.
func (s *State) Nodes(kind Kind, after string, yield func(*Node) bool) {
	s.nodes(kind).Ascend(after, func(id string, n *Node) bool {
		return (id == after && after != "") || yield(n)
	})
}

func (s *State) nodes(kind Kind) *btree.Map[string, *Node] {
	if kind == MediaHandler {
		return s.mhs
	}
	return s.mcs
}

// LiveAssignment returns the live assignment of a meeting, nil when there is none.
func (s *State) LiveAssignment(key MeetingKey) *Assignment {
	if s.lookup != nil {
		return s.lookup.live[key]
	}
	item, _ := s.live.Get(liveItem{key: key})
	return item.a
}

// LastEnded returns the assignment of a meeting that ended last and is still kept, nil when
// there is none.
func (s *State) LastEnded(key MeetingKey) *Assignment {
	var last *Assignment
	s.ended.Descend(&Assignment{MeetingKey: key, Token: ^uint64(0)}, func(a *Assignment) bool {
		if a.MeetingKey == key {
			last = a
		}
		return false
	})
	return last
}

// Ended returns an ended assignment that is still kept, nil when there is none.
func (s *State) Ended(key MeetingKey, token uint64) *Assignment {
	a, _ := s.ended.Get(&Assignment{MeetingKey: key, Token: token})
	return a
}

// Cursor is a place in the order of region, meeting and token.
type Cursor struct {
	MeetingKey
	Token uint64
}

// Assignments calls yield for assignments behind the cursor, ordered by region, meeting and
// token; with ended ones when asked. A region or mcID narrows it, and costs only what it yields
// (as far as ended ones are left out).
func (s *State) Assignments(after Cursor, region, mcID string, ended bool, yield func(*Assignment) bool) {
	if region != "" && after.Region < region {
		after = Cursor{MeetingKey: MeetingKey{Region: region}}
	}
	history := func(func(*Assignment) bool) {}
	if ended {
		history = func(yield func(*Assignment) bool) {
			s.ended.Ascend(&Assignment{MeetingKey: after.MeetingKey, Token: after.Token}, after.behind(yield))
		}
	}
	merge(s.liveAfter(after, mcID), history, byToken, func(a *Assignment) bool {
		if region != "" && a.Region != region {
			return a.Region < region
		}
		return (mcID != "" && a.MCID != mcID) || yield(a)
	})
}

func (s *State) liveAfter(after Cursor, mcID string) iter.Seq[*Assignment] {
	if mcID != "" {
		pivot := &Assignment{MCID: mcID, MeetingKey: after.MeetingKey, Token: after.Token}
		return func(yield func(*Assignment) bool) {
			yield = after.behind(yield)
			s.liveByMC.Ascend(pivot, func(a *Assignment) bool { return a.MCID == mcID && yield(a) })
		}
	}
	return func(yield func(*Assignment) bool) {
		yield = after.behind(yield)
		s.live.Ascend(liveItem{key: after.MeetingKey}, func(i liveItem) bool { return yield(i.a) })
	}
}

// behind passes over what is not behind the cursor.
func (c Cursor) behind(yield func(*Assignment) bool) func(*Assignment) bool {
	return func(a *Assignment) bool {
		return cmp.Or(a.Compare(c.MeetingKey), cmp.Compare(a.Token, c.Token)) <= 0 || yield(a)
	}
}

// Counts are the totals of the state.
type Counts struct {
	MediaHandlers, MeetingControllers, LiveAssignments, EndedAssignments int
}

// Counts returns the totals.
func (s *State) Counts() Counts {
	return Counts{s.mhs.Len(), s.mcs.Len(), s.live.Len(), s.ended.Len()}
}

// setNode puts a node in place of the one that had its id.
func (s *State) setNode(n *Node) {
	n.sum = n.digest()
	old, replaced := s.nodes(n.Kind).Set(n.ID, n)
	if replaced {
		s.recordsTotal = s.recordsTotal.sub(old.sum)
	}
	s.recordsTotal = s.recordsTotal.add(n.sum)
	s.lookup.nodes(n.Kind)[n.ID] = n
	s.census.replace(old, n)
}

func (s *State) setMember(m *Member) {
	m.sum = m.digest()
	if old, replaced := s.members.Set(m.ID, m); replaced {
		s.recordsTotal = s.recordsTotal.sub(old.sum)
	}
	s.recordsTotal = s.recordsTotal.add(m.sum)
}

// setLive puts a live assignment in place of the one with its key.
func (s *State) setLive(a *Assignment) {
	a.sum = a.digest()
	if old, replaced := s.live.Set(liveItem{a.MeetingKey, a}); replaced {
		s.liveByMC.Delete(old.a)
		s.uncountLive(old.a)
	}
	s.liveByMC.Set(a)
	s.lookup.live[a.MeetingKey] = a
	s.countLive(a)
}

func (s *State) countLive(a *Assignment) {
	s.census.live(a, +1)
	s.recordsTotal = s.recordsTotal.add(a.sum)
}

// restoreLive is setLive for one that has its digest. Live assignments that come in their order are
// put in faster, and found by their keys alone until indexLive.
func (s *State) restoreLive(a *Assignment) {
	if old, replaced := s.live.Load(liveItem{a.MeetingKey, a}); replaced {
		s.uncountLive(old.a)
	}
	s.countLive(a)
}

// indexLive makes the indexes of live assignments anew.
func (s *State) indexLive() {
	var both sync.WaitGroup
	both.Go(s.lookUpLive)
	both.Go(s.indexByController)
	both.Wait()
}

func (s *State) lookUpLive() {
	s.lookup.live = make(map[MeetingKey]*Assignment, s.live.Len())
	s.live.Scan(func(i liveItem) bool {
		s.lookup.live[i.key] = i.a
		return true
	})
}

// indexByController gathers by controller first: put in one by one, each would land somewhere else
// in the tree.
func (s *State) indexByController() {
	byMC := make(map[string][]*Assignment)
	s.live.Scan(func(i liveItem) bool {
		byMC[i.a.MCID] = append(byMC[i.a.MCID], i.a)
		return true
	})
	s.liveByMC.Clear()
	for _, id := range slices.Sorted(maps.Keys(byMC)) {
		for _, a := range byMC[id] {
			s.liveByMC.Load(a)
		}
	}
}

func (s *State) dropLive(a *Assignment) {
	s.live.Delete(liveItem{key: a.MeetingKey})
	s.liveByMC.Delete(a)
	delete(s.lookup.live, a.MeetingKey)
	s.uncountLive(a)
}

func (s *State) uncountLive(a *Assignment) {
	s.census.live(a, -1)
	s.recordsTotal = s.recordsTotal.sub(a.sum)
}

// addEnded takes one that has its digest.
func (s *State) addEnded(a *Assignment) {
	if old, replaced := s.ended.Set(a); replaced {
		s.endedByTime.Delete(old)
		s.recordsTotal = s.recordsTotal.sub(old.sum)
	}
	s.endedByTime.Set(a)
	s.recordsTotal = s.recordsTotal.add(a.sum)
}

func (s *State) dropEnded(a *Assignment) {
	s.ended.Delete(a)
	s.endedByTime.Delete(a)
	s.recordsTotal = s.recordsTotal.sub(a.sum)
}
