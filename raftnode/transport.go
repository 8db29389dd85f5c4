package raftnode

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// rpcTimeout bounds one Raft RPC. (Snapshots get more, by their size.)
	rpcTimeout = 2 * time.Second
	// maxDiskStall is how long a leader's log write may hang before it stops to heartbeat:
	// raft heartbeats beside the disk, so a leader whose disk hangs would lead forever.
	maxDiskStall = 2 * time.Second
)

var errDiskStalled = errors.New("this replica's disk does not answer: it gives up leading")

// transport is raft's TCP transport with three changes.
//
// Heartbeats take the ordinary way: raft's short cut handles them on the connection's
// goroutine, where one of a newer term can overtake an append of an older one and let logs
// diverge (hashicorp/raft issue 695).
//
// It remembers when the request that a peer last acknowledged was sent, which is what a read
// must know: raft counts an acknowledgement that was on its way before the read began, and a
// leader that was stopped meanwhile would believe it.
//
// It keeps quiet while the leader's disk hangs.
type transport struct {
	*raft.NetworkTransport
	log  *durableLog
	mu   sync.Mutex
	acks map[raft.ServerID]ack
}

// ack is an acknowledgement of leadership in a term.
type ack struct {
	term uint64
	sent time.Time // when the request was sent
}

func newTransport(l net.Listener, advertise string, log *durableLog, logger hclog.Logger) *transport {
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			Stream:  streamLayer{l, advertisedAddr(advertise)},
			MaxPool: 4,
			// No pipelining: it can wedge replication to a peer after a refused append
			// and gains nothing on a LAN.
			MaxRPCsInFlight: 1,
			Timeout:         rpcTimeout,
			Logger:          logger.Named("transport"),
		}),
		log:  log,
		acks: make(map[raft.ServerID]ack),
	}
}

// SetHeartbeatHandler declines the short cut.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends a heartbeat or entries.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress,
	req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.log.stalled() > maxDiskStall {
		return errDiskStalled
	}
	sent := time.Now()
	if err := t.NetworkTransport.AppendEntries(id, target, req, resp); err != nil {
		return err
	}
	if resp.Term <= req.Term {
		t.acknowledge(id, ack{term: req.Term, sent: sent})
	}
	return nil
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

// streamLayer is plain TCP. The advertised address stays as it was written, a host name
// included, and is looked up at every dial.
type streamLayer struct {
	net.Listener
	advertise advertisedAddr
}

func (s streamLayer) Addr() net.Addr { return s.advertise }

func (s streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", string(address), timeout)
	if err != nil {
		return nil, fmt.Errorf("dial replica: %w", err)
	}
	return conn, nil
}

type advertisedAddr string

func (advertisedAddr) Network() string  { return "tcp" }
func (a advertisedAddr) String() string { return string(a) }
