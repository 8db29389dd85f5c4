package netfault

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// connection is one dialled connection: two flows, each under the rule of its direction.
type connection struct {
	from, to     string
	inner, outer net.Conn
	done         chan struct{}
	once         sync.Once
}

// abort breaks both ends at once: what was on its way is lost.
func (c *connection) abort() {
	c.once.Do(func() {
		close(c.done)
		for _, end := range []net.Conn{c.inner, c.outer} {
			if tcp, ok := end.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // a reset, not an orderly end
			}
			_ = end.Close()
		}
	})
}

// carry serves one connection until it ends.
func (n *Network) carry(outer net.Conn, to, target string, dialler func(net.Conn) string) {
	from := dialler(outer)
	inner, err := net.DialTimeout("tcp", target, time.Second)
	if err != nil {
		if tcp, ok := outer.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // the server is down: its port would have refused
		}
		_ = outer.Close()
		return
	}
	c := &connection{from: from, to: to, inner: inner, outer: outer, done: make(chan struct{})}
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		c.abort()
		return
	}
	n.flows[c] = struct{}{}
	n.mu.Unlock()
	var flows sync.WaitGroup
	flows.Go(func() { n.flow(c, inner, outer, direction{from, to}) })
	flows.Go(func() { n.flow(c, outer, inner, direction{to, from}) })
	flows.Wait()
	c.abort()
	n.mu.Lock()
	delete(n.flows, c)
	n.mu.Unlock()
}

// flow copies what one end says to the other. An end that says no more is passed on, under the rule
// as well; one that broke breaks the other.
func (n *Network) flow(c *connection, to, from net.Conn, d direction) {
	buf := make([]byte, 32<<10)
	for {
		got, err := from.Read(buf)
		if !n.pass(d, c.done) {
			return
		}
		if got > 0 {
			if _, err := to.Write(buf[:got]); err != nil {
				c.abort()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			if tcp, ok := to.(*net.TCPConn); ok {
				_ = tcp.CloseWrite() // it may be closed already
			}
			return
		}
		if err != nil {
			c.abort()
			return
		}
	}
}
