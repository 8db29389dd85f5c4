package netfault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Anyone is the name of a process that was not named with Process: a client.
const Anyone = ""

// Network is a set of named processes and the rules for what they say to each other. Its methods
// may be called from several goroutines.
type Network struct {
	mu        sync.Mutex
	pids      map[string]func() int
	rules     map[direction]rule
	changed   chan struct{} // closed and replaced at every change of the rules
	listeners []net.Listener
	flows     map[*connection]struct{}
	closed    bool
}

// direction is one way between two processes.
type direction struct{ from, to string }

type rule struct {
	cut   bool
	delay time.Duration
}

// New returns a network without rules: everything passes.
func New() *Network {
	return &Network{
		pids:    make(map[string]func() int),
		rules:   make(map[direction]rule),
		changed: make(chan struct{}),
		flows:   make(map[*connection]struct{}),
	}
}

// Process names a process, so that its connections are known to be its own. pid is asked for every
// new connection, and returns 0 while there is none.
func (n *Network) Process(name string, pid func() int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pids[name] = pid
}

// Expose puts a proxy in front of a server of the named process and returns the proxy's address.
// The server need not run yet.
func (n *Network) Expose(to, target string) (string, error) {
	return n.listen("127.0.0.1:0", to, target, n.dialler)
}

// ExposeAt is Expose at an address of the caller's choice.
func (n *Network) ExposeAt(address, to, target string) (string, error) {
	return n.listen(address, to, target, n.dialler)
}

// ExposeTo is Expose for one dialler, which is the caller's word for whoever uses the address.
func (n *Network) ExposeTo(from, to, target string) (string, error) {
	return n.listen("127.0.0.1:0", to, target, func(net.Conn) string { return from })
}

func (n *Network) listen(address, to, target string, dialler func(net.Conn) string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("listen in front of %s: %w", to, err)
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, l)
	n.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go n.carry(conn, to, target, dialler)
		}
	}()
	return l.Addr().String(), nil
}

// Cut lets nothing more pass from one process to another, in this direction only. What is under way
// is kept and goes on after Heal, as TCP would send it again; connections stay open.
func (n *Network) Cut(from, to string) {
	n.change(func() { n.rules[direction{from, to}] = rule{cut: true} })
}

// Delay holds up everything that one process says to another: each piece by half of d up to one and
// a half of it.
func (n *Network) Delay(from, to string, d time.Duration) {
	n.change(func() { n.rules[direction{from, to}] = rule{delay: d} })
}

// Heal lifts the rules of one direction.
func (n *Network) Heal(from, to string) {
	n.change(func() { delete(n.rules, direction{from, to}) })
}

// HealAll lifts all rules.
func (n *Network) HealAll() { n.change(func() { clear(n.rules) }) }

func (n *Network) change(edit func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	edit()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Reset breaks all connections between two processes, whoever dialled.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.flows {
		if (c.from == a && c.to == b) || (c.from == b && c.to == a) {
			c.abort()
		}
	}
}

// Close breaks all connections and frees the addresses.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	var errs []error
	for _, l := range n.listeners {
		errs = append(errs, l.Close())
	}
	for c := range n.flows {
		c.abort()
	}
	return errors.Join(errs...)
}

// pass waits until something may go in a direction, and as long as its rule holds it up. It returns
// false when done is closed before.
func (n *Network) pass(d direction, done <-chan struct{}) bool {
	for {
		n.mu.Lock()
		r, changed := n.rules[d], n.changed
		n.mu.Unlock()
		switch {
		case !r.cut && r.delay == 0:
			return true
		case !r.cut:
			timer := time.NewTimer(r.delay/2 + rand.N(r.delay))
			defer timer.Stop()
			select {
			case <-timer.C:
				return true
			case <-done:
				return false
			}
		}
		select {
		case <-changed:
		case <-done:
			return false
		}
	}
}
