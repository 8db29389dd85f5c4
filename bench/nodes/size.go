package nodes

import "fmt"

// Size is how large a fleet is. Its nodes are numbered, and spread evenly over regions and zones.
type Size struct {
	Regions       int `json:"regions"`
	MediaHandlers int `json:"media_handlers"`
	Controllers   int `json:"meeting_controllers"`
}

// Node is what a media handler or controller says of itself when it registers.
type Node struct {
	ID, Region, Zone string
}

var zones = []string{"a", "b", "c"}

// MediaHandler is the ith media handler.
func (s Size) MediaHandler(i int) Node { return s.node(fmt.Sprintf("mh-%06d", i), i) }

// Controller is the ith meeting controller.
func (s Size) Controller(i int) Node { return s.node(fmt.Sprintf("mc-%05d", i), i) }

// Region is the region of the ith meeting, of any kind.
func (s Size) Region(i int) string { return fmt.Sprintf("region-%d", i%s.Regions) }

func (s Size) node(id string, i int) Node {
	return Node{ID: id, Region: s.Region(i), Zone: zones[i/s.Regions%len(zones)]}
}

func (s Size) String() string {
	return fmt.Sprintf("%d media handlers and %d meeting controllers in %d regions", s.MediaHandlers, s.Controllers, s.Regions)
}
