package raftnode

import (
	"fmt"
	"strings"
)

// tell says what this replica waits for.
func (n *Node) tell(reports []report, self identity) {
	answers := make([]string, len(reports))
	fresh, joined, led := 0, 0, false
	count := func(isJoined, isNew bool) {
		if isJoined {
			joined++
		} else if isNew {
			fresh++
		}
	}
	count(self.Joined, !self.Joined)
	for i, r := range reports {
		answers[i] = r.nodeID + ": " + r.describe()
		if r.err == nil {
			count(r.Joined, r.Standing == standingNew)
			led = led || r.Leader != ""
		}
	}
	said := strings.Join(answers, "; ")
	majority := (len(reports)+1)/2 + 1
	switch {
	case joined > 0 && !led && len(reports)+1-fresh < majority:
		n.log.Error("the cluster has lost its majority: so many data folders are empty that what it acknowledged may be gone. "+
			"Nothing goes on by itself. Put a data folder back where it was; or empty all of them, to begin anew without what was acknowledged",
			"empty", fresh, "of", len(reports)+1, "replicas", said)
	case self.Joined:
		n.log.Info("no leader is known: waiting for a majority of the replicas", "replicas", said)
	case joined > 0:
		n.log.Info("this data folder is new but the cluster is not: waiting for its leader to admit it", "replicas", said)
	default:
		n.log.Info("this data folder is new: waiting until all replicas of the initial cluster have answered", "replicas", said)
	}
}

func (r report) describe() string {
	switch {
	case r.err != nil:
		return "does not answer (" + r.err.Error() + ")"
	case r.Standing == standingNew:
		return "new as well"
	case r.Reason != "":
		return r.Reason
	case r.Leader == "":
		return "in the cluster, knows no leader"
	}
	return fmt.Sprintf("in the cluster, follows %s", r.Leader)
}
