package raftnode

import (
	"github.com/hashicorp/raft"
)

// Consumer is where raft takes requests from.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// dispatch hands requests to raft, and answers heartbeats of the term that this replica is in at once.
// Raft handles one request after the other, each append with its fsync: a disk that takes a while, or
// a processor that others have, would make its leader believe that this replica is gone. Such a
// heartbeat asks only whether it is still in that term, and as long as it is it has voted in no
// later one. Raft gets the heartbeat too: by it, it knows that there is a leader, and what is committed.
func (t *transport) dispatch() {
	var waiting []raft.RPC
	answered := false // the last that waits is a heartbeat that has its answer
	for {
		var out chan<- raft.RPC
		var next raft.RPC
		if len(waiting) > 0 {
			out, next = t.rpcs, waiting[0]
		}
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			heartbeat, ok := t.answer(rpc)
			if ok && answered {
				waiting[len(waiting)-1] = heartbeat // it says all that the one before said
			} else {
				waiting = append(waiting, heartbeat)
			}
			answered = ok
		case out <- next:
			waiting = waiting[1:]
			answered = answered && len(waiting) > 0
		case <-t.done:
			return
		}
	}
}

// answer answers a heartbeat of this replica's term, and returns it as raft is to have it: its answer goes
// nowhere. Any other request is returned as it is.
func (t *transport) answer(rpc raft.RPC) (raft.RPC, bool) {
	req, ok := rpc.Command.(*raft.AppendEntriesRequest)
	if !ok || req.PrevLogEntry != 0 || len(req.Entries) != 0 || !t.inTerm(req.Term) {
		return rpc, false
	}
	rpc.Respond(&raft.AppendEntriesResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: req.ProtocolVersion}, Term: req.Term, Success: true}, nil)
	return raft.RPC{Command: req, RespChan: make(chan raft.RPCResponse, 1)}, true
}
