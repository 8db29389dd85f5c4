package fsm

// CensusKey says what a number of nodes have in common.
type CensusKey struct {
	Kind   Kind
	Region string
	Health Health
}

// census counts as the state changes, so that a scrape of the metrics walks no table. It is
// derived from the records, and neither hashed nor kept in snapshots.
type census struct {
	nodes map[CensusKey]int
	alive map[string]int
}

func newCensus() census {
	return census{nodes: make(map[CensusKey]int), alive: make(map[string]int)}
}

func (c census) node(n *Node, delta int) {
	c.nodes[n.censusKey()] += delta
}

func (n *Node) censusKey() CensusKey { return CensusKey{n.Kind, n.Region, n.Health} }

// replace counts a node in place of the one before it, which may be nil. Most reports change
// nothing that is counted.
func (c census) replace(before, now *Node) {
	if before == nil {
		c.node(now, +1)
	} else if before.censusKey() != now.censusKey() {
		c.node(before, -1)
		c.node(now, +1)
	}
}

func (c census) live(a *Assignment, delta int) {
	c.alive[a.Region] += delta
}

// NodeCensus calls yield with the number of nodes by kind, region and health, in no order. A
// number that has fallen to zero is still given, so that a gauge falls with it.
func (s *State) NodeCensus(yield func(CensusKey, int)) {
	for key, count := range s.census.nodes {
		yield(key, count)
	}
}

// LiveCensus calls yield with the number of live assignments by region, in no order.
func (s *State) LiveCensus(yield func(region string, count int)) {
	for region, count := range s.census.alive {
		yield(region, count)
	}
}
