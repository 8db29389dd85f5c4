package raftnode

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// dialTimeout is short, so that a peer behind a partition is found soon after it heals: a
	// lost SYN is sent again after a second only.
	dialTimeout = 500 * time.Millisecond
	// rpcTimeout bounds one Raft RPC. (Snapshots get more, by their size.)
	rpcTimeout = 2 * time.Second
	// maxDiskStall is how long a leader's log write may hang before it stops to heartbeat:
	// raft heartbeats beside the disk, so a leader whose disk hangs would lead forever.
	maxDiskStall = 2 * time.Second
)

// maxPool is how many idle connections to each peer are kept.
const maxPool = 4

var errNotLeading = errors.New("this replica does not lead any more")

var errDiskStalled = errors.New("this replica's disk does not answer: it does not lead")

// transport is raft's TCP transport with eight changes.
//
// Heartbeats take the ordinary way through raft: its short cut handles them on the connection's
// goroutine, where one of a newer term can overtake an append of an older one and let logs
// diverge (hashicorp/raft issue 695). But those of the term that this replica is in are answered before
// (dispatch.go).
//
// It remembers when the request that a peer last acknowledged was sent, which is what a read
// must know: raft counts an acknowledgement that was on its way before the read began, and a
// leader that was stopped meanwhile would believe it.
//
// It tells the commit index with heartbeats, as in Ongaro's thesis (section 3.5) and as etcd does: raft
// tells it with the next entry, or when nothing has come for a while. So a round that confirms the
// leader for a read brings the followers what they wait for to answer theirs.
//
// It tells of nothing as committed that is not on the leader's own disk yet, or that the peer is not
// known to have stored of this leader's log.
//
// It keeps quiet while this replica's disk hangs: it neither leads nor asks for votes.
//
// It returns a failure to replicate only once the peer answers heartbeats again: raft waits
// longer after every failure, up to ten seconds, and a follower that is back would be left behind
// that long, with the quorum if another one fails meanwhile.
//
// It asks for votes again when a connection turns out to be dead.
//
// It receives snapshots itself (spool.go), and raft has them when they are whole.
type transport struct {
	*raft.NetworkTransport
	logger hclog.Logger
	log    *parallelLog
	// inTerm says whether this replica is in a term.
	inTerm func(term uint64) bool
	// leads says whether this replica still leads a server in a term.
	leads func(id raft.ServerID, term uint64) bool
	// committed is the commit index of this replica, as far as it is on its disk, when it leads in a
	// term; else 0.
	committed func(term uint64) uint64
	mu        sync.Mutex
	acks      map[raft.ServerID]ack
	// heard is when the last request was sent that a peer answered, whatever the answer: one of a
	// newer term, too, must reach raft.
	heard map[raft.ServerID]time.Time
	// stored is how far a peer's log is known to be this leader's.
	stored map[raft.ServerID]place

	spool     spool
	snapshots chan raft.RPC // those that are here
	rpcs      chan raft.RPC // for raft
	done      chan struct{}
	stop      sync.Once
}

// place is an index in the log of the leader of a term.
type place struct{ term, index uint64 }

// ack is an acknowledgement of leadership in a term.
type ack struct {
	term uint64
	sent time.Time // when the request was sent
}

func newTransport(stream raft.StreamLayer, log *parallelLog, inTerm func(uint64) bool, leads func(raft.ServerID, uint64) bool, committed func(uint64) uint64, dir string, logger hclog.Logger) *transport {
	logger = logger.Named("transport")
	t := &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:  stream,
			MaxPool: maxPool,
			// No pipelining: it can wedge replication to a peer after a refused append
			// and gains nothing on a LAN.
			MaxRPCsInFlight: 1,
			Timeout:         rpcTimeout,
			Logger:          logger,
		}),
		logger:    logger,
		log:       log,
		inTerm:    inTerm,
		leads:     leads,
		committed: committed,
		acks:      make(map[raft.ServerID]ack),
		heard:     make(map[raft.ServerID]time.Time),
		stored:    make(map[raft.ServerID]place),
		spool:     spool{dir: dir},
		snapshots: make(chan raft.RPC),
		rpcs:      make(chan raft.RPC),
		done:      make(chan struct{}),
	}
	go t.dispatch()
	return t
}

// Close ends the transport.
func (t *transport) Close() error {
	t.stop.Do(func() { close(t.done) })
	return t.NetworkTransport.Close()
}

// SetHeartbeatHandler declines the short cut.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends a heartbeat or entries.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress,
	req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.log.stalled() > maxDiskStall {
		return errDiskStalled
	}
	heartbeat := isHeartbeat(req)
	if heartbeat {
		req = t.tellCommitted(id, req)
	} else {
		// A leader that is deposed takes its successor's log while it replicates its own: a request that
		// was put together meanwhile may have entries of both. In its term, it changes none.
		if !t.inTerm(req.Term) {
			return errNotLeading
		}
		// No more than the request itself proves the peer to have: raft's follower believes all that
		// it is told, of whatever its log holds.
		req = tell(req, t.log.storedUpTo(min(req.LeaderCommitIndex, req.PrevLogEntry+uint64(len(req.Entries)))))
	}
	sent := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, target, req, resp); err != nil {
		t.forget(id)
		if !heartbeat {
			t.awaitPeer(id, req.Term, sent)
		}
		return err
	}
	t.hear(id, sent)
	if resp.Term <= req.Term {
		t.acknowledge(id, ack{term: req.Term, sent: sent})
	}
	if resp.Success && !heartbeat {
		t.store(id, place{req.Term, req.PrevLogEntry + uint64(len(req.Entries))})
	}
	return nil
}

// RequestPreVote asks whether others would vote for this replica.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress,
	req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.log.stalled() > maxDiskStall {
		return errDiskStalled
	}
	return again(func() error { return t.NetworkTransport.RequestPreVote(id, target, req, resp) })
}

// RequestVote asks others for their vote.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress,
	req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return again(func() error { return t.NetworkTransport.RequestVote(id, target, req, resp) })
}

// again asks once more for as long as an answer may be missing for a connection that was kept since before the
// peer restarted, which shows when it is used. Raft takes that for a refusal, and would ask again after
// an election timeout. Who is asked twice answers the same.
func again(ask func() error) error {
	began := time.Now()
	err := ask()
	for tries := 0; err != nil && tries < maxPool && time.Since(began) < maxStale; tries++ {
		err = ask()
	}
	return err
}

// maxStale is how soon a dead connection shows.
const maxStale = 250 * time.Millisecond

// isHeartbeat tells the request that raft sends beside replication: it carries a term only.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.LeaderCommitIndex == 0 && len(req.Entries) == 0
}

// tellCommitted is a heartbeat with the commit index. Nothing in a heartbeat proves that the peer's log
// is this leader's, so it is told no more than what the peer has acknowledged to have stored in this
// very term.
func (t *transport) tellCommitted(id raft.ServerID, heartbeat *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	committed := t.committed(heartbeat.Term)
	t.mu.Lock()
	defer t.mu.Unlock()
	if have := t.stored[id]; have.term == heartbeat.Term {
		return tell(heartbeat, min(committed, have.index))
	}
	return heartbeat
}

// tell is a request with another commit index.
func tell(req *raft.AppendEntriesRequest, committed uint64) *raft.AppendEntriesRequest {
	told := *req // raft sends its own again
	told.LeaderCommitIndex = committed
	return &told
}

// peerPoll is how often a failed replication looks whether its peer is back.
const peerPoll = 20 * time.Millisecond

// awaitPeer returns when a peer has answered a request sent since a time, whatever the answer, or
// the leadership of it is over.
func (t *transport) awaitPeer(id raft.ServerID, term uint64, since time.Time) {
	ticker := time.NewTicker(peerPoll)
	defer ticker.Stop()
	for t.leads(id, term) && !t.heardSince(id, since) {
		<-ticker.C
	}
}

func (t *transport) hear(id raft.ServerID, sent time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if sent.After(t.heard[id]) {
		t.heard[id] = sent
	}
}

func (t *transport) heardSince(id raft.ServerID, since time.Time) bool {
	return t.lastHeard(id).After(since)
}

// lastHeard is when the last request was sent that a peer answered.
func (t *transport) lastHeard(id raft.ServerID) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heard[id]
}

func (t *transport) store(id raft.ServerID, upTo place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.stored[id]; upTo.term > old.term || (upTo.term == old.term && upTo.index > old.index) {
		t.stored[id] = upTo
	}
}

// forget takes nothing that a peer has stored for known any longer: it may be another process by now,
// on a disk that was put back to what it was before.
func (t *transport) forget(id raft.ServerID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.stored, id)
}

// hasStored says whether a peer has the log of this leader up to an index.
func (t *transport) hasStored(id raft.ServerID, term, index uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	have := t.stored[id]
	return have.term == term && have.index >= index
}

func (t *transport) acknowledge(id raft.ServerID, a ack) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.acks[id]; a.term > old.term || (a.term == old.term && a.sent.After(old.sent)) {
		t.acks[id] = a
	}
}

// ackedSince says whether a peer has acknowledged this term in answer to a request that was
// sent at or after a time.
func (t *transport) ackedSince(id raft.ServerID, term uint64, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.acks[id]
	return ok && a.term == term && !a.sent.Before(since)
}
