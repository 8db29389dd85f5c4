package assign

import (
	"cmp"
	"context"
	"sync"

	"github.com/tidwall/btree"

	"github.com/conclave-rtc/conclave/fsm"
)

// Index keeps the nodes that may be chosen in the order in which they are preferred, so that a
// choice looks at a handful of them at any size of the fleet. It follows the state machine on
// every replica, so that a new leader has it at once. Beyond the state it knows what this leader
// is placing right now, and which nodes it has set aside. It implements fsm.Observer.
//
// Nodes report far more often than meetings are placed, so a node that has changed is ranked only
// when a choice is made: once, however often it has changed by then, and on followers never.
type Index struct {
	mu    sync.Mutex
	nodes map[nodeKey]*candidate
	pools map[poolKey]map[string]*btree.BTreeG[ranked] // by zone
	// unsettled are the candidates whose rank may no longer be right.
	unsettled []*candidate
	// leadership is the last one of this replica: while it lasts, no choice is to make up for too
	// many changes.
	leadership context.Context
}

// maxUnsettled bounds what a choice has to make up for, to a few milliseconds.
const maxUnsettled = 1024

type nodeKey struct {
	kind fsm.Kind
	id   string
}

type poolKey struct {
	kind   fsm.Kind
	region string
}

// candidate is a node with what only this replica knows of it.
type candidate struct {
	node *fsm.Node
	// pending are meetings that are being placed on the node and not committed yet.
	pending uint32
	// aside is the node's HeardIndex when it was set aside: it stays so until it is heard again.
	aside uint64
	// at is where it is ranked; the zero value while it is not to be chosen.
	at place
	// unsettled: it is among the Index's.
	unsettled bool
}

type zoneKey struct {
	poolKey
	zone string
}

// place is a rank in the tree of a zone.
type place struct {
	zone zoneKey
	rank ranked
}

// ranked orders candidates: by load, then the most recent report, then id.
type ranked struct {
	load         float64
	lastReportMs int64
	id           string
	candidate    *candidate
}

func (r ranked) less(o ranked) bool {
	if c := cmp.Compare(r.load, o.load); c != 0 {
		return c < 0
	}
	if r.lastReportMs != o.lastReportMs {
		return r.lastReportMs > o.lastReportMs
	}
	return r.id < o.id
}

// NewIndex returns an empty index.
func NewIndex() *Index {
	none, end := context.WithCancel(context.Background())
	end()
	x := &Index{nodes: make(map[nodeKey]*candidate), leadership: none}
	x.clear()
	return x
}

func (x *Index) clear() {
	x.pools = make(map[poolKey]map[string]*btree.BTreeG[ranked])
}

// NodeChanged implements fsm.Observer.
func (x *Index) NodeChanged(n *fsm.Node) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put(n)
	if len(x.unsettled) >= maxUnsettled && x.leadership.Err() == nil {
		x.settle()
	}
}

// Lead prepares for choices, which are made until the context ends.
func (x *Index) Lead(leadership context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.leadership = leadership
	x.settle()
}

// Reset implements fsm.Observer: the state was replaced by a snapshot. What is pending stays
// pending.
func (x *Index) Reset(s *fsm.State) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.clear()
	for _, c := range x.nodes {
		c.node, c.at = nil, place{}
	}
	for _, kind := range []fsm.Kind{fsm.MediaHandler, fsm.MeetingController} {
		s.Nodes(kind, "", func(n *fsm.Node) bool {
			x.put(n)
			return true
		})
	}
	for key, c := range x.nodes {
		if c.node == nil && c.pending == 0 {
			delete(x.nodes, key)
		}
	}
}

func (x *Index) put(n *fsm.Node) {
	key := nodeKey{n.Kind, n.ID}
	c := x.nodes[key]
	if c == nil {
		c = new(candidate)
		x.nodes[key] = c
	}
	c.node = n
	x.unsettle(c)
}

// unsettle has a candidate ranked again before the next choice.
func (x *Index) unsettle(c *candidate) {
	if !c.unsettled {
		c.unsettled = true
		x.unsettled = append(x.unsettled, c)
	}
}

// settle ranks what has changed. Who was placed on, and has it in the state by now, is where it was.
func (x *Index) settle() {
	for i, c := range x.unsettled {
		if to := c.place(); to != c.at {
			x.unrank(c)
			x.rank(c, to)
		}
		c.unsettled = false
		x.unsettled[i] = nil
	}
	x.unsettled = x.unsettled[:0]
}

// place is where a candidate belongs now, or nowhere: the zero value.
func (c *candidate) place() place {
	n := c.node
	if n == nil || !n.Selectable() || c.aside == n.HeardIndex {
		return place{}
	}
	return place{
		zoneKey{poolKey{n.Kind, n.Region}, n.Zone},
		ranked{n.Load(c.pending), n.LastReportMs, n.ID, c},
	}
}

func (x *Index) rank(c *candidate, to place) {
	if to != (place{}) {
		x.zone(to.zone).Set(to.rank)
	}
	c.at = to
}

func (x *Index) unrank(c *candidate) {
	if c.at == (place{}) {
		return
	}
	zones := x.pools[c.at.zone.poolKey]
	tree := zones[c.at.zone.zone]
	tree.Delete(c.at.rank)
	if tree.Len() == 0 {
		delete(zones, c.at.zone.zone) // a choice looks at every zone: empty ones must not pile up
	}
}

func (x *Index) zone(key zoneKey) *btree.BTreeG[ranked] {
	zones := x.pools[key.poolKey]
	if zones == nil {
		zones = make(map[string]*btree.BTreeG[ranked])
		x.pools[key.poolKey] = zones
	}
	tree := zones[key.zone]
	if tree == nil {
		tree = btree.NewBTreeGOptions(ranked.less, btree.Options{NoLocks: true})
		zones[key.zone] = tree
	}
	return tree
}

// update changes what only this replica knows of a node.
func (x *Index) update(kind fsm.Kind, id string, change func(*candidate)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c := x.nodes[nodeKey{kind, id}]; c != nil {
		change(c)
		x.unsettle(c)
	}
}

// SetAside hides a node from choices until its next report or registration after the one that
// the caller knew it by.
func (x *Index) SetAside(n *fsm.Node) {
	x.update(n.Kind, n.ID, func(c *candidate) { c.aside = max(c.aside, n.HeardIndex) })
}

// Done ends what Choose reserved on a node: the meeting is committed, and counted in the state,
// or will not be.
func (x *Index) Done(n *fsm.Node) {
	x.update(n.Kind, n.ID, func(c *candidate) { c.pending-- })
}

// Pending is how many meetings are being placed on a node and not committed yet.
func (x *Index) Pending(kind fsm.Kind, id string) uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	if c := x.nodes[nodeKey{kind, id}]; c != nil {
		return c.pending
	}
	return 0
}
