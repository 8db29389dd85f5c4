package raftnode

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// install sends a snapshot; its end is told through the channel.
func install(leader, follower *transport, size int64, data io.Reader) <-chan error {
	done := make(chan error, 1)
	go func() {
		req := &raft.InstallSnapshotRequest{Term: 3, Size: size}
		done <- leader.InstallSnapshot("f", follower.LocalAddr(), req, new(raft.InstallSnapshotResponse), data)
	}()
	return done
}

// expectWhole takes a snapshot as raft does, and wants all of it.
func expectWhole(t *testing.T, follower *transport, want []byte) {
	t.Helper()
	rpc := <-follower.Consumer()
	if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); !ok {
		t.Fatalf("raft has %T, want the snapshot", rpc.Command)
	}
	got, err := io.ReadAll(rpc.Reader)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the snapshot has %d bytes, %v; want the %d that were sent", len(got), err, len(want))
	}
	rpc.Respond(&raft.InstallSnapshotResponse{Term: 3, Success: true}, nil)
}

// expectNoFiles wants no trace of what was received, once nothing holds it.
func expectNoFiles(t *testing.T, follower *transport) {
	t.Helper()
	if left, err := os.ReadDir(follower.spool.dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A leader that is stopped in the middle of a snapshot must not keep a follower from voting.
func TestASnapshotThatStallsHoldsUpNothing(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	data := bytes.Repeat([]byte("state "), 100_000)
	from, to := io.Pipe()
	done := install(leader, follower, int64(len(data)), from)
	half := len(data) / 2
	if _, err := to.Write(data[:half]); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		asked <- leader.RequestPreVote("f", follower.LocalAddr(), &raft.RequestPreVoteRequest{Term: 4}, new(raft.RequestPreVoteResponse))
	}()
	rpc := <-follower.Consumer()
	if _, ok := rpc.Command.(*raft.RequestPreVoteRequest); !ok {
		t.Fatalf("raft has %T before the snapshot is here, want the request for a vote", rpc.Command)
	}
	rpc.Respond(&raft.RequestPreVoteResponse{Term: 4, Granted: true}, nil)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = to.Write(data[half:])
		_ = to.Close()
	}()
	expectWhole(t, follower, data)
	if err := <-done; err != nil {
		t.Error(err)
	}
	expectNoFiles(t, follower)
}

// A leader that begins anew does so because the connection of the first snapshot is lost.
func TestANewSnapshotTakesThePlaceOfOneThatStalls(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	from, to := io.Pipe()
	stalled := install(leader, follower, 1<<20, from)
	if _, err := to.Write(make([]byte, 1<<19)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first is being received", func() bool {
		follower.spool.mu.Lock()
		defer follower.spool.mu.Unlock()
		return follower.spool.receiving != nil
	})
	data := []byte("newer")
	done := install(leader, follower, int64(len(data)), bytes.NewReader(data))
	expectWhole(t, follower, data)
	if err := <-done; err != nil {
		t.Error(err)
	}
	leader.leads = func(raft.ServerID, uint64) bool { return false } // it is not waited for
	go func() {
		_, _ = to.Write(make([]byte, 1<<19))
		_ = to.Close()
	}()
	if err := <-stalled; err == nil || !strings.Contains(err.Error(), "receive a snapshot") {
		t.Errorf("the first snapshot: %v, want that it was given up", err)
	}
	expectNoFiles(t, follower)
}

// As a failed append, a failed snapshot is told when the peer is back: raft waits longer after each.
func TestFailedSnapshotWaitsForThePeer(t *testing.T) {
	leader := newTestLeader(t, nil)
	nobody := &transport{NetworkTransport: newTestTransport(t, nil).NetworkTransport}
	if err := nobody.NetworkTransport.Close(); err != nil {
		t.Fatal(err)
	}
	leader.hear("f", time.Now()) // long ago, when it was there
	expectTellsOnceThere(t, leader, install(leader, nobody, 1, bytes.NewReader([]byte("x"))))
}
