package raftnode

import (
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// newTestTransport is a transport of a leader in every term.
func newTestTransport(t *testing.T, log *durableLog) *transport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if log == nil {
		log = &durableLog{LogStore: raft.NewInmemStore()}
	}
	stream := newTestStream(l, func(hello) answer { return answer{Standing: standingWelcome} })
	tr := newTransport(stream, newParallelLog(log, func() bool { return true }), func(uint64) bool { return false }, func(raft.ServerID, uint64) bool { return true }, func(uint64) uint64 { return 0 }, t.TempDir(), hclog.NewNullLogger())
	t.Cleanup(func() { tr.Close() })
	return tr
}

// newTestLeader is a transport of who is in every term.
func newTestLeader(t *testing.T, log *durableLog) *transport {
	t.Helper()
	tr := newTestTransport(t, log)
	tr.inTerm = func(uint64) bool { return true }
	return tr
}

// newTestStream is the stream layer of a server without an instance.
func newTestStream(l net.Listener, receive func(hello) answer) *streamLayer {
	introduce := func(to raft.ServerID) hello { return hello{Purpose: forRaft, From: "test", To: to, Joined: true} }
	return newStreamLayer(l, raft.ServerAddress(l.Addr().String()), introduce, receive, hclog.NewNullLogger())
}

// follow answers every request of a peer with a term.
func follow(tr *transport, term uint64) (received *atomic.Int64) {
	received = new(atomic.Int64)
	go func() {
		for rpc := range tr.Consumer() {
			received.Add(1)
			rpc.Respond(&raft.AppendEntriesResponse{Term: term, Success: true}, nil)
		}
	}()
	return received
}

// Raft's short cut for heartbeats lets one of a newer term overtake an append of an older one
// (hashicorp/raft issue 695): they must come through the consumer, in order with the rest.
func TestHeartbeatsComeThroughTheConsumer(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	follower.SetHeartbeatHandler(func(raft.RPC) { t.Error("the heartbeat took the short cut") })
	received := follow(follower, 3)
	heartbeat := &raft.AppendEntriesRequest{Term: 3}
	if err := leader.AppendEntries("f", follower.LocalAddr(), heartbeat, new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	if received.Load() != 1 {
		t.Fatalf("the consumer received %d heartbeats, want 1", received.Load())
	}
}

// A follower that is busy with an append is there all the same. But only what is of its own term can be
// answered without it: who asks in another one must wait for raft's word.
func TestHeartbeatsOfTheTermAreAnsweredWhileRaftIsBusy(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	follower.inTerm = func(term uint64) bool { return term == 3 }
	send := func(req *raft.AppendEntriesRequest) (*raft.AppendEntriesResponse, error) {
		resp := new(raft.AppendEntriesResponse)
		return resp, leader.AppendEntries("f", follower.LocalAddr(), req, resp)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := send(&raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, Entries: entriesFrom(8, 1)})
		sent <- err
	}()
	busyWith := <-follower.Consumer() // raft's one goroutine has it, and takes nothing else
	for range 3 {
		if resp, err := send(&raft.AppendEntriesRequest{Term: 3}); err != nil || !resp.Success || resp.Term != 3 {
			t.Errorf("a heartbeat got %+v, %v", resp, err)
		}
	}
	newer := make(chan uint64, 1)
	go func() {
		resp, err := send(&raft.AppendEntriesRequest{Term: 4})
		if err != nil {
			t.Error(err)
		}
		newer <- resp.Term
	}()
	busyWith.Respond(&raft.AppendEntriesResponse{Term: 3, Success: true}, nil)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	// Raft hears of the heartbeats once, and has the word on the newer term.
	var heard []uint64
	for len(heard) < 2 {
		rpc := <-follower.Consumer()
		heard = append(heard, rpc.Command.(*raft.AppendEntriesRequest).Term)
		rpc.Respond(&raft.AppendEntriesResponse{Term: 9}, nil)
	}
	if !slices.Equal(heard, []uint64{3, 4}) {
		t.Errorf("raft heard heartbeats of the terms %v, want one of each", heard)
	}
	if got := <-newer; got != 9 {
		t.Errorf("the heartbeat of a newer term was answered with %d, want raft's own word", got)
	}
}

// A follower whose disk hangs must not keep its leader in office for ever.
func TestRaftHangsWhenItTakesNothing(t *testing.T) {
	now := time.Now()
	if hangs(now.Add(-maxDiskStall), now) || !hangs(now.Add(-maxDiskStall-1), now) {
		t.Errorf("it hangs after %v without taking a request, not before", maxDiskStall)
	}
}

func TestAcknowledgementsCountFromWhenTheyWereAskedFor(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	answer := make(chan struct{})
	go func() {
		for rpc := range follower.Consumer() {
			<-answer
			rpc.Respond(&raft.AppendEntriesResponse{Term: 3, Success: true}, nil)
		}
	}()
	done := make(chan error, 1)
	before := time.Now()
	go func() {
		done <- leader.AppendEntries("f", follower.LocalAddr(), &raft.AppendEntriesRequest{Term: 3}, new(raft.AppendEntriesResponse))
	}()
	answer <- struct{}{} // the request is there; its answer comes after the read began
	began := time.Now()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !leader.ackedSince("f", 3, before) {
		t.Error("an acknowledgement of what was sent after the moment does not count")
	}
	if leader.ackedSince("f", 3, began) {
		t.Error("an acknowledgement of what was sent before the read began counts for it")
	}
	if leader.ackedSince("f", 4, before) {
		t.Error("an acknowledgement of another term counts")
	}
	if leader.ackedSince("g", 3, before) {
		t.Error("an acknowledgement of another peer counts")
	}
}

// What a peer has stored is known from what it was sent and took, in this term only.
func TestTransportKnowsWhatAPeerHasStored(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	takes := make(chan bool, 1)
	go func() {
		for rpc := range follower.Consumer() {
			rpc.Respond(&raft.AppendEntriesResponse{Term: 3, Success: <-takes}, nil)
		}
	}()
	send := func(success bool, req *raft.AppendEntriesRequest) {
		t.Helper()
		takes <- success
		if err := leader.AppendEntries("f", follower.LocalAddr(), req, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
	}
	send(true, &raft.AppendEntriesRequest{Term: 3})
	if leader.hasStored("f", 3, 1) {
		t.Error("a heartbeat says nothing of the log")
	}
	send(false, &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, LeaderCommitIndex: 7})
	if leader.hasStored("f", 3, 1) {
		t.Error("a refused append counts as stored")
	}
	send(true, &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, Entries: []*raft.Log{{Index: 8}, {Index: 9}}})
	if !leader.hasStored("f", 3, 9) || leader.hasStored("f", 3, 10) {
		t.Error("after 8 and 9 behind 7 it has stored up to 9")
	}
	if leader.hasStored("f", 4, 9) || leader.hasStored("g", 3, 9) {
		t.Error("what is stored counts for one peer in one term")
	}
}

// A heartbeat proves nothing of the peer's log, so the commit index in it must be of entries that the
// peer has stored in this very term: it would take others, of an older leader, for committed.
func TestHeartbeatsTellTheCommitIndexOfWhatThePeerHasStored(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	var committed uint64
	leader.committed = func(term uint64) uint64 {
		if term != 3 {
			return 0 // it does not lead in any other
		}
		return committed
	}
	told := make(chan uint64, 1)
	go func() {
		for rpc := range follower.Consumer() {
			told <- rpc.Command.(*raft.AppendEntriesRequest).LeaderCommitIndex
			rpc.Respond(&raft.AppendEntriesResponse{Term: 3, Success: true}, nil)
		}
	}()
	send := func(id raft.ServerID, req *raft.AppendEntriesRequest) uint64 {
		t.Helper()
		if err := leader.AppendEntries(id, follower.LocalAddr(), req, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		return <-told
	}
	heartbeat := &raft.AppendEntriesRequest{Term: 3}
	expect := func(id raft.ServerID, want uint64, why string) {
		t.Helper()
		if got := send(id, heartbeat); got != want {
			t.Errorf("told %d, want %d: %s", got, want, why)
		}
	}
	committed = 9
	expect("f", 0, "nothing is known of its log")
	send("f", &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: 9, LeaderCommitIndex: 1})
	expect("f", 0, "what it stored in another term may be another entry")
	send("f", &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, LeaderCommitIndex: 1})
	expect("f", 7, "it has no more")
	send("f", &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, LeaderCommitIndex: 1, Entries: []*raft.Log{{Index: 8}, {Index: 9}, {Index: 10}}})
	expect("f", 9, "no more is committed")
	expect("g", 0, "another peer has it")
	if err := leader.AppendEntries("f", "127.0.0.1:1", &raft.AppendEntriesRequest{Term: 3}, new(raft.AppendEntriesResponse)); err == nil {
		t.Fatal("a heartbeat to nobody succeeded")
	}
	expect("f", 0, "it did not answer, and may have come back as it was before")
	if heartbeat.LeaderCommitIndex != 0 {
		t.Error("raft's own heartbeat was changed: it is sent again, and then told from replication by this index")
	}
	if got := send("f", &raft.AppendEntriesRequest{Term: 4}); got != 0 {
		t.Errorf("told %d in a term in which it does not lead", got)
	}
}

// An append tells of no more as committed than what it proves the peer to have, and what is on the
// leader's own disk.
func TestAppendsTellTheCommitIndexOfWhatIsStored(t *testing.T) {
	follower := newTestTransport(t, nil)
	told := make(chan uint64, 1)
	go func() {
		for rpc := range follower.Consumer() {
			told <- rpc.Command.(*raft.AppendEntriesRequest).LeaderCommitIndex
			rpc.Respond(&raft.AppendEntriesResponse{Term: 3, Success: true}, nil)
		}
	}()
	log, _, open := newGatedLog()
	leader := newTestLeader(t, log.durableLog)
	leader.log = log
	expect := func(req *raft.AppendEntriesRequest, want uint64, why string) {
		t.Helper()
		before := req.LeaderCommitIndex
		if err := leader.AppendEntries("f", follower.LocalAddr(), req, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != want || req.LeaderCommitIndex != before {
			t.Errorf("told %d, want %d: %s", got, want, why)
		}
	}
	expect(&raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, LeaderCommitIndex: 9}, 7, "its log may go on in another way")
	expect(&raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, LeaderCommitIndex: 9, Entries: entriesFrom(8, 3)}, 9, "it has more than that")
	if err := log.StoreLogs(entriesFrom(8, 2)); err != nil {
		t.Fatal(err)
	}
	expect(&raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 9, LeaderCommitIndex: 9}, 7, "the leader's disk has no more")
	close(open)
	if err := log.await(9); err != nil {
		t.Fatal(err)
	}
	expect(&raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 9, LeaderCommitIndex: 9}, 9, "the leader's disk has it now")
}

func TestARefusalIsNoAcknowledgement(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	follow(follower, 9)
	before := time.Now()
	if err := leader.AppendEntries("f", follower.LocalAddr(), &raft.AppendEntriesRequest{Term: 3}, new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	if leader.ackedSince("f", 3, before) {
		t.Error("a peer of a newer term was counted as a follower")
	}
}

func TestALeaderWhoseDiskHangsKeepsQuiet(t *testing.T) {
	log := &durableLog{LogStore: raft.NewInmemStore()}
	leader, follower := newTestTransport(t, log), newTestTransport(t, nil)
	received := follow(follower, 3)
	log.writingSince.Store(monotonic() - int64(2*maxDiskStall))
	err := leader.AppendEntries("f", follower.LocalAddr(), &raft.AppendEntriesRequest{Term: 3}, new(raft.AppendEntriesResponse))
	if !errors.Is(err, errDiskStalled) || received.Load() != 0 {
		t.Fatalf("got %v and %d heartbeats, want none sent", err, received.Load())
	}
	err = leader.RequestPreVote("f", follower.LocalAddr(), &raft.RequestPreVoteRequest{Term: 4}, new(raft.RequestPreVoteResponse))
	if !errors.Is(err, errDiskStalled) || received.Load() != 0 {
		t.Fatalf("got %v and %d requests for votes, want none sent", err, received.Load())
	}
}

// Raft waits longer after every failed replication. So a failure is told only when the peer
// answers heartbeats again, or the leadership is over.
func TestFailedReplicationWaitsForThePeer(t *testing.T) {
	leader := newTestLeader(t, nil)
	var leads atomic.Bool
	leads.Store(true)
	leader.leads = func(raft.ServerID, uint64) bool { return leads.Load() }
	down, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := raft.ServerAddress(down.Addr().String())
	down.Close()

	replicate := func() <-chan error {
		done := make(chan error, 1)
		go func() {
			req := &raft.AppendEntriesRequest{Term: 3, LeaderCommitIndex: 5}
			done <- leader.AppendEntries("f", address, req, new(raft.AppendEntriesResponse))
		}()
		return done
	}
	expectTellsOnceThere(t, leader, replicate())
	failed := replicate()
	leads.Store(false)
	if err := <-failed; err == nil {
		t.Fatal("a failed replication was told as a success")
	}
}

// expectTellsOnceThere wants a failure to be told when the peer has answered again.
func expectTellsOnceThere(t *testing.T, leader *transport, failed <-chan error) {
	t.Helper()
	select {
	case err := <-failed:
		t.Fatalf("told at once: %v", err)
	case <-time.After(3 * peerPoll):
	}
	leader.hear("f", time.Now())
	if err := <-failed; err == nil {
		t.Fatal("a failure was told as a success")
	}
}

// A heartbeat fails at once: it is what finds out that the peer is back.
func TestFailedHeartbeatIsToldAtOnce(t *testing.T) {
	leader := newTestLeader(t, nil)
	err := leader.AppendEntries("f", "127.0.0.1:1", &raft.AppendEntriesRequest{Term: 3}, new(raft.AppendEntriesResponse))
	if err == nil {
		t.Fatal("a heartbeat to nobody succeeded")
	}
}

// recorder is a listener that knows what it has accepted.
type recorder struct {
	net.Listener
	mu       sync.Mutex
	accepted []net.Conn
}

func (r *recorder) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted = append(r.accepted, conn)
	return conn, err
}

func (r *recorder) breakAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, conn := range r.accepted {
		_ = conn.Close() // of some, a second time
	}
}

// A peer that has restarted does not know the connections that were kept. It is asked for its vote all the same:
// raft would take no answer for a refusal.
func TestVoteIsAskedForAgainOnADeadConnection(t *testing.T) {
	for name, request := range map[string]func(candidate *transport, peer raft.ServerAddress) error{
		"pre-vote": func(candidate *transport, peer raft.ServerAddress) error {
			return candidate.RequestPreVote("f", peer, &raft.RequestPreVoteRequest{Term: 4}, new(raft.RequestPreVoteResponse))
		},
		"vote": func(candidate *transport, peer raft.ServerAddress) error {
			return candidate.RequestVote("f", peer, &raft.RequestVoteRequest{Term: 4}, new(raft.RequestVoteResponse))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			listener := &recorder{Listener: l}
			peer := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
				Stream:  newTestStream(listener, func(hello) answer { return answer{Standing: standingWelcome} }),
				Timeout: rpcTimeout, Logger: hclog.NewNullLogger(),
			})
			defer peer.Close()
			candidate := newTestLeader(t, nil)

			asked := make(chan error, maxPool)
			var together []raft.RPC // so that each has a connection of its own
			for range maxPool {
				go func() { asked <- request(candidate, peer.LocalAddr()) }()
			}
			for range maxPool {
				together = append(together, <-peer.Consumer())
			}
			for _, rpc := range together {
				rpc.Respond(new(raft.RequestVoteResponse), nil)
			}
			for range maxPool {
				if err := <-asked; err != nil {
					t.Fatal(err)
				}
			}
			listener.breakAll()
			over := make(chan struct{})
			defer close(over)
			go func() {
				select {
				case rpc := <-peer.Consumer():
					rpc.Respond(new(raft.RequestVoteResponse), nil)
				case <-over:
				}
			}()
			if err := request(candidate, peer.LocalAddr()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A leader that is deposed may have taken its successor's log while it put a request together.
func TestNothingIsReplicatedInAnEarlierTerm(t *testing.T) {
	leader, follower := newTestLeader(t, nil), newTestTransport(t, nil)
	received := follow(follower, 4)
	leader.inTerm = func(term uint64) bool { return term == 4 }
	send := func(term uint64) error {
		req := &raft.AppendEntriesRequest{Term: term, PrevLogEntry: 7, PrevLogTerm: 3, Entries: entriesFrom(8, 1)}
		return leader.AppendEntries("f", follower.LocalAddr(), req, new(raft.AppendEntriesResponse))
	}
	if err := send(3); !errors.Is(err, errNotLeading) || received.Load() != 0 {
		t.Errorf("got %v, and the follower %d requests", err, received.Load())
	}
	if err := send(4); err != nil || received.Load() != 1 {
		t.Errorf("in its term: got %v, and the follower %d requests", err, received.Load())
	}
}
