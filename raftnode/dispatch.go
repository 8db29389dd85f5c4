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
//
// Snapshots are received first (spool.go).
func (t *transport) dispatch() {
	var queue requests
	for {
		var out chan<- raft.RPC
		var next raft.RPC
		if len(queue.waiting) > 0 {
			out, next = t.rpcs, queue.waiting[0]
		}
		select {
		case rpc := <-t.NetworkTransport.Consumer():
			if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
				go t.receiveSnapshot(rpc)
				continue
			}
			queue.put(rpc, t.answer)
		case snapshot := <-t.snapshots:
			queue.put(snapshot, t.answer)
		case out <- next:
			queue.took()
		case <-t.done:
			return
		}
	}
}

// requests wait for raft.
type requests struct {
	waiting  []raft.RPC
	answered bool      // the last that waits is a heartbeat that has its answer
	taken    time.Time // when raft last took one, or the first came that it has not taken
}

func (q *requests) put(rpc raft.RPC, answer func(raft.RPC) (raft.RPC, bool)) {
	now := time.Now()
	if len(q.waiting) == 0 {
		q.taken = now
	}
	answered := false
	if !hangs(q.taken, now) {
		rpc, answered = answer(rpc)
	}
	if answered && q.answered {
		q.waiting[len(q.waiting)-1] = rpc // it says all that the one before said
	} else {
		q.waiting = append(q.waiting, rpc)
	}
	q.answered = answered
}

func (q *requests) took() {
	q.waiting[0] = raft.RPC{} // its entries are not kept longer
	q.waiting, q.taken = q.waiting[1:], time.Now()
	q.answered = q.answered && len(q.waiting) > 0
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
