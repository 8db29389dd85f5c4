package raftnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// helloTimeout bounds the exchange of hellos, on both sides. A replica that is called for the
	// first time starts Raft within it.
	helloTimeout = time.Second
	// maxGreetings are the connections that may be exchanging hellos. A port that strangers reach
	// must not cost more.
	maxGreetings = 64
	// acceptRetry is the pause after a connection could not be accepted: the process has too many
	// files open.
	acceptRetry = 50 * time.Millisecond
)

// streamLayer is TCP on which every connection begins with a hello. It answers hellos as soon as it
// is made, also when Raft does not run yet. The advertised address stays as it was written, a host
// name included, and is looked up at every dial.
type streamLayer struct {
	net.Listener
	address raft.ServerAddress
	// introduce makes the hello for a server that Raft calls.
	introduce func(to raft.ServerID) hello
	// receive answers a hello. It may take as long as helloTimeout.
	receive func(hello) answer
	log     hclog.Logger
	told    seldom

	welcome   chan net.Conn
	greetings chan struct{}
	closed    chan struct{}
	once      sync.Once
}

func newStreamLayer(l net.Listener, address raft.ServerAddress, introduce func(raft.ServerID) hello,
	receive func(hello) answer, log hclog.Logger) *streamLayer {
	s := &streamLayer{
		Listener: l, address: address, introduce: introduce, receive: receive, log: log,
		welcome: make(chan net.Conn), greetings: make(chan struct{}, maxGreetings), closed: make(chan struct{}),
	}
	go s.serve()
	return s
}

// Accept returns the next connection whose hello was welcome.
func (s *streamLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-s.welcome:
		return conn, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close ends the listener. Connections that were accepted stay.
func (s *streamLayer) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		err = s.Listener.Close()
	})
	return err
}

// Addr is the advertised address.
func (s *streamLayer) Addr() net.Addr { return advertisedAddr(s.address) }

func (s *streamLayer) serve() {
	for {
		select {
		case s.greetings <- struct{}{}:
		case <-s.closed:
			return
		}
		conn, err := s.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			<-s.greetings
			s.log.Error("could not accept a connection", "error", err)
			select {
			case <-time.After(acceptRetry):
			case <-s.closed:
				return
			}
			continue
		}
		go func() {
			defer func() { <-s.greetings }()
			if !s.greet(conn) {
				conn.Close()
			}
		}()
	}
}

// greet answers the hello of a connection, and says whether it goes on.
func (s *streamLayer) greet(conn net.Conn) bool {
	if conn.SetDeadline(time.Now().Add(helloTimeout)) != nil {
		return false
	}
	h, err := readHello(conn)
	if err != nil {
		// Health checks of load balancers and port scanners connect and say nothing.
		s.log.Debug("a connection without a hello", "from", conn.RemoteAddr(), "error", err)
		return false
	}
	a := s.receive(h)
	if a.Standing == standingRefused && s.told.may(string(h.From)+a.Reason) {
		s.log.Warn("refused a replica", "peer", h.From, "address", conn.RemoteAddr(), "reason", a.Reason)
	}
	if writeFrame(conn, a) != nil || a.Standing != standingWelcome || conn.SetDeadline(time.Time{}) != nil {
		return false
	}
	select {
	case s.welcome <- conn:
		return true
	case <-s.closed:
		return false
	}
}

// Dial connects to a server for Raft.
func (s *streamLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, at := splitAddress(address)
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, dialTimeout+helloTimeout))
	defer cancel()
	conn, a, err := call(ctx, at, s.introduce(id))
	if err != nil {
		return nil, err
	}
	if a.Standing == standingWelcome {
		return &progressing{Conn: conn}, nil
	}
	conn.Close()
	if s.told.may(string(id) + a.Reason) {
		s.log.Warn("a replica refused this one", "peer", id, "address", at, "reason", a.Reason)
	}
	return nil, fmt.Errorf("replica %s at %s refused: %s", id, at, a.Reason)
}

// maxWriteStall is how long a peer may take none of what is written to it.
const maxWriteStall = 10 * time.Second

// progressing is a connection on which each write has a deadline, beside the one for all: raft gives a
// snapshot that by its size, and would wait most of an hour for a peer that is gone. It is for one goroutine.
type progressing struct {
	net.Conn
	deadline time.Time
}

// SetDeadline implements net.Conn.
func (c *progressing) SetDeadline(t time.Time) error {
	c.deadline = t
	return c.Conn.SetDeadline(t)
}

// Write implements net.Conn.
func (c *progressing) Write(b []byte) (int, error) {
	deadline := time.Now().Add(maxWriteStall)
	if !c.deadline.IsZero() && c.deadline.Before(deadline) {
		deadline = c.deadline
	}
	if err := c.SetWriteDeadline(deadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// call dials a replica and says hello. The connection has no deadline when it returns.
func call(ctx context.Context, address string, h hello) (net.Conn, answer, error) {
	dialler := net.Dialer{Timeout: dialTimeout}
	conn, err := dialler.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, answer{}, fmt.Errorf("dial replica: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	a, err := exchange(conn, h)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, answer{}, fmt.Errorf("replica at %s: %w", address, err)
	}
	return conn, a, nil
}

func exchange(conn net.Conn, h hello) (answer, error) {
	if err := conn.SetDeadline(time.Now().Add(helloTimeout)); err != nil {
		return answer{}, err
	}
	if err := writeFrame(conn, h); err != nil {
		return answer{}, err
	}
	a, err := readAnswer(conn)
	if err != nil {
		return answer{}, err
	}
	return a, conn.SetDeadline(time.Time{})
}

type advertisedAddr string

func (advertisedAddr) Network() string  { return "tcp" }
func (a advertisedAddr) String() string { return string(a) }

// seldom lets each line of a log through once a minute.
type seldom struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (s *seldom) may(line string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if at, ok := s.last[line]; ok && now.Sub(at) < time.Minute {
		return false
	}
	if s.last == nil || len(s.last) > 1000 { // strangers choose what they call themselves
		s.last = make(map[string]time.Time)
	}
	s.last[line] = now
	return true
}
