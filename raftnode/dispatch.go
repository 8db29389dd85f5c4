package raftnode

import (
	"time"

	"github.com/hashicorp/raft"
)

// Consumer is where raft takes requests from.
func (t *transport) Consumer() <-chan raft.RPC { return t.rpcs }

// dispatch hands requests to raft, and answers heartbeats of the term that this replica is in at once.
// Raft handles one request after the other, each append with its fsync: a disk that takes a while, or
// a processor that others have, would make its leader believe that this replica is gone. Such a
// heartbeat asks only whether it is still in that term, and as long as it is it has voted in no
// later one. Raft gets the heartbeat too: by it, it knows that there is a leader, and what is committed.
// A raft that takes nothing for too long hangs, and is no help to its leader: then nothing is answered for it.
func (t *transport) dispatch() {
	var waiting []raft.RPC
	answered := false   // the last that waits is a heartbeat that has its answer
	var taken time.Time // when raft last took one, or the first came that it has not taken
	for {
		var out chan<- raft.RPC
		var next raft.RPC
		if len(waiting) > 0 {
			out, next = t.rpcs, waiting[0]
		}
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			now := time.Now()
			if len(waiting) == 0 {
				taken = now
			}
			heartbeat, ok := rpc, false
			if !hangs(taken, now) {
				heartbeat, ok = t.answer(rpc)
			}
			if ok && answered {
				waiting[len(waiting)-1] = heartbeat // it says all that the one before said
			} else {
				waiting = append(waiting, heartbeat)
			}
			answered = ok
		case out <- next:
			waiting[0] = raft.RPC{} // its entries are not kept longer
			waiting, taken = waiting[1:], time.Now()
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

// hangs says whether raft, which has had a request before it since a time, takes none any more: it has been
// for as long as a disk may hang.
func hangs(since, now time.Time) bool { return now.Sub(since) > maxDiskStall }
