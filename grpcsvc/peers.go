package grpcsvc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/conclave-rtc/conclave/fsm"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// peers are the connections to the other replicas, and which of them leads.
type peers struct {
	node *raftnode.Node

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by gRPC address
	now   *leaderView
}

// leaderView is a leader for as long as this replica takes it for one.
type leaderView struct {
	id, address string
	conn        *grpc.ClientConn
	// passed ends when another replica leads, or none: calls to a leader that was stopped
	// would otherwise hang as long as it does.
	passed context.Context
	pass   context.CancelFunc

	mu   sync.Mutex
	link *link // the latest; nil before it is first needed
}

func newPeers(node *raftnode.Node, done <-chan struct{}) *peers {
	p := &peers{node: node, conns: make(map[string]*grpc.ClientConn)}
	go p.follow(done)
	return p
}

// follow ends a leader's view when the leader changes.
func (p *peers) follow(done <-chan struct{}) {
	for {
		changed := p.node.LeaderChanged()
		p.leader()
		select {
		case <-changed:
		case <-time.After(time.Second): // raft may drop the news when there is much of it
		case <-done:
			return
		}
	}
}

// leader returns the replica that leads now; nil while none does, or it has not told its gRPC
// address yet, or it is this one.
func (p *peers) leader() *leaderView {
	id := p.node.Leader()
	address := memberAddress(p.node.Machine(), id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		if p.now.id == id && p.now.address == address {
			return p.now
		}
		p.now.pass()
		p.now = nil
	}
	if address == "" || id == p.node.ID() {
		return nil
	}
	conn, err := p.conn(address)
	if err != nil {
		return nil // an address that can never be dialled: its replica announces a better one
	}
	p.now = &leaderView{id: id, address: address, conn: conn}
	p.now.passed, p.now.pass = context.WithCancel(context.Background())
	return p.now
}

// ask asks the leader, over a link that many requests share.
func (v *leaderView) ask(ctx context.Context, req *replicav1.ForwardRequest) (*replicav1.ForwardResponse, error) {
	return v.intact().ask(ctx, req)
}

func (v *leaderView) intact() *link {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.link == nil || v.link.isBroken() {
		v.link = openLink(v.passed, v.conn)
	}
	return v.link
}

// bind returns a context that also ends when the leader is no longer taken for one.
func (v *leaderView) bind(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(v.passed, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

func memberAddress(m *fsm.Machine, id string) (address string) {
	m.View(func(s *fsm.State) {
		if member := s.Member(id); member != nil {
			address = member.GRPCAddress
		}
	})
	return address
}

// connTo returns the connection to a replica.
func (p *peers) connTo(address string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn(address)
}

func (p *peers) conn(address string) (*grpc.ClientConn, error) {
	if conn, ok := p.conns[address]; ok {
		return conn, nil
	}
	conn, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithStaticStreamWindowSize(callWindow),
		grpc.WithStaticConnWindowSize(16*connWindow),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16*maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
		// A replica that restarts is there again in a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("replica at %s: %w", address, err)
	}
	p.conns[address] = conn
	return conn, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		p.now.pass()
	}
	for _, conn := range p.conns {
		conn.Close()
	}
}
