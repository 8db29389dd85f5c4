package fsm

import (
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// Outcome says what a command did.
type Outcome int

const (
	// Applied: the command took effect, or had taken effect before.
	Applied Outcome = iota
	// NotRegistered: the node is not known.
	NotRegistered
	// Conflict: what the command was decided on has changed. Nothing was done.
	Conflict
	// NoAssignment: the meeting has no live assignment.
	NoAssignment
	// Fenced: the token named is no longer the meeting's.
	Fenced
	// Repeated: the node has taken this report, or a later one of its session. Nothing was done.
	Repeated
)

// Result is what a command did, and what stands now.
type Result struct {
	Outcome Outcome
	// Index is the Raft index of the entry.
	Index uint64
	// StampMs is the leader's stamp of the entry, Unix milliseconds.
	StampMs int64
	// Node is the node as it stands, after a command on a node.
	Node *Node
	// Assignment is the one that stands, or that was ended, after a command on a meeting; nil
	// when there is none.
	Assignment *Assignment
	// Count is how many records a PruneEnded removed.
	Count int
}

// apply runs the commands of one entry and calls changed for every node that is not what it was.
func (s *State) apply(index, term uint64, entry *commandv1.Entry, changed func(*Node)) []Result {
	s.index, s.term = index, term
	s.stampMs = max(s.stampMs, entry.StampUnixMs)
	a := applier{State: s, changed: changed}
	results := make([]Result, len(entry.Commands))
	for i, cmd := range entry.Commands {
		r := a.command(cmd)
		r.Index, r.StampMs = index, entry.StampUnixMs
		results[i] = r
	}
	return results
}

// applier applies the commands of one entry.
type applier struct {
	*State
	changed func(*Node)
}

func (a applier) command(cmd *commandv1.Command) Result {
	switch op := cmd.Op.(type) {
	case *commandv1.Command_Lead:
		a.leader = op.Lead.NodeId
		return Result{}
	case *commandv1.Command_AnnounceMember:
		return a.announce(op.AnnounceMember)
	case *commandv1.Command_RegisterNode:
		return a.register(op.RegisterNode)
	case *commandv1.Command_ReportLoad:
		return a.report(op.ReportLoad)
	case *commandv1.Command_MarkStale:
		return a.markStale(op.MarkStale)
	case *commandv1.Command_Assign:
		return a.assign(op.Assign)
	case *commandv1.Command_Reconfirm:
		return a.reconfirm(op.Reconfirm)
	case *commandv1.Command_End:
		return a.end(op.End)
	case *commandv1.Command_PruneEnded:
		return a.prune(op.PruneEnded)
	}
	panic("fsm: a command passed DecodeEntry that apply does not know")
}

func (a applier) announce(cmd *commandv1.AnnounceMember) Result {
	a.setMember(&Member{ID: cmd.NodeId, GRPCAddress: cmd.GrpcAddress, CommandVersion: cmd.CommandVersion})
	return Result{}
}

func (a applier) putNode(n *Node) {
	a.setNode(n)
	a.changed(n)
}
