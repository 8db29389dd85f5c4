package assign

import (
	"crypto/rand"
	"encoding/binary"
	"slices"

	"github.com/tidwall/btree"

	"github.com/conclave-rtc/conclave/fsm"
)

const (
	// shortlist is how many of the best candidates are drawn from. One alone would take
	// everything until its next report; many would take from the good for the bad.
	shortlist = 5
	// maxWeighedLoad leaves even a full candidate a chance to be drawn.
	maxWeighedLoad = 0.99
	degradedWeight = 0.5
	zoneWeight     = 1.2
)

// Query says what is looked for.
type Query struct {
	Kind   fsm.Kind
	Region string
	// PreferredZone weighs more, when it is not empty.
	PreferredZone string
	// Exclude are ids not to be chosen.
	Exclude []string
	// AvoidZone, when not nil, is a zone not to be chosen from.
	AvoidZone *string
}

// Choose draws a node: the best candidates of the region by load, then at random by their
// weights. It reserves a meeting on it, so that the next choice sees it, until Done. The cost
// is logarithmic in the number of nodes, for each zone of the region. Nil when there is none.
func (x *Index) Choose(q Query) *fsm.Node {
	x.mu.Lock()
	defer x.mu.Unlock()
	best := x.shortlist(q)
	if len(best) == 0 {
		return nil
	}
	weights := make([]float64, len(best))
	for i, r := range best {
		weights[i] = weight(r.candidate.node, r.load, q.PreferredZone)
	}
	c := best[draw(weights, randomFloat())].candidate
	c.pending++
	x.unsettle(c)
	return c.node
}

// shortlist returns the best candidates of all zones, in order.
func (x *Index) shortlist(q Query) []ranked {
	x.settle()
	var best []ranked
	for zone, tree := range x.pools[poolKey{q.Kind, q.Region}] {
		if q.AvoidZone == nil || zone != *q.AvoidZone {
			best = appendBest(best, tree, q.Exclude)
		}
	}
	slices.SortFunc(best, func(a, b ranked) int {
		if a.less(b) {
			return -1
		}
		return 1
	})
	return best[:min(len(best), shortlist)]
}

func appendBest(best []ranked, tree *btree.BTreeG[ranked], exclude []string) []ranked {
	left := shortlist
	tree.Scan(func(r ranked) bool {
		if !slices.Contains(exclude, r.id) {
			best = append(best, r)
			left--
		}
		return left > 0
	})
	return best
}

// weight is how likely a candidate is drawn, in proportion.
func weight(n *fsm.Node, load float64, preferredZone string) float64 {
	w := 1 - min(load, maxWeighedLoad)
	if n.Health == fsm.Degraded {
		w *= degradedWeight
	}
	if preferredZone != "" && n.Zone == preferredZone {
		w *= zoneWeight
	}
	return w
}

// draw returns an index with the probability of its weight. The point is uniform in [0, 1).
func draw(weights []float64, point float64) int {
	var total float64
	for _, w := range weights {
		total += w
	}
	point *= total
	for i, w := range weights {
		if point < w {
			return i
		}
		point -= w
	}
	return len(weights) - 1
}

// randomFloat is uniform in [0, 1), from the system's cryptographic source: who can predict a
// choice can aim at a node.
func randomFloat() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it would end the process
	return float64(binary.LittleEndian.Uint64(b[:])>>11) / (1 << 53)
}

// chooseMediaHandlers draws a primary, and a backup that is another node, in another zone when
// there is one. One alone is returned when there is only one.
func (x *Index) chooseMediaHandlers(region, preferredZone string) []*fsm.Node {
	q := Query{Kind: fsm.MediaHandler, Region: region, PreferredZone: preferredZone}
	primary := x.Choose(q)
	if primary == nil {
		return nil
	}
	q.Exclude = []string{primary.ID}
	q.AvoidZone = &primary.Zone
	backup := x.Choose(q)
	if backup == nil {
		q.AvoidZone = nil
		backup = x.Choose(q)
	}
	if backup == nil {
		return []*fsm.Node{primary}
	}
	return []*fsm.Node{primary, backup}
}
