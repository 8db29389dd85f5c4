// Package raftnode runs the Raft log of one replica: stores, transport, elections, group commit
// and linearizable reads, on top of hashicorp/raft.
//
// It knows nothing of meetings or media. It must never answer a proposal before its entry is
// committed and applied, retry an fsync that failed, or confirm leadership by an acknowledgement
// that was sent for before the question was asked.
package raftnode
