package netfault

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// echoServer answers every line with the same line.
func echoServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					fmt.Fprintln(conn, lines.Text())
				}
			}()
		}
	}()
	return l.Addr().String()
}

// client is a connection with one line under way at most.
type client struct {
	t       *testing.T
	conn    net.Conn
	answers chan string // closed when the connection ends
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{t: t, conn: conn, answers: make(chan string)}
	go func() {
		defer close(c.answers)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			c.answers <- lines.Text()
		}
	}()
	return c
}

func (c *client) say(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) wantAnswer(line string) {
	c.t.Helper()
	select {
	case got := <-c.answers:
		if got != line {
			c.t.Errorf("answer %q, want %q", got, line)
		}
	case <-time.After(10 * time.Second):
		c.t.Fatalf("no answer %q", line)
	}
}

// wantSilence gives an answer that must not come a moment to come all the same.
func (c *client) wantSilence() {
	c.t.Helper()
	select {
	case got, open := <-c.answers:
		c.t.Fatalf("answer %q (open %v), want none", got, open)
	case <-time.After(50 * time.Millisecond):
	}
}

func TestCutHoldsOneDirectionUntilHealed(t *testing.T) {
	for _, cut := range []direction{{"a", "b"}, {"b", "a"}} {
		t.Run(cut.from+" to "+cut.to, func(t *testing.T) {
			n := New()
			t.Cleanup(func() { n.Close() })
			addr, err := n.ExposeTo("a", "b", echoServer(t))
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, addr)
			c.say("one")
			c.wantAnswer("one")

			n.Cut(cut.from, cut.to)
			c.say("two")
			c.wantSilence()
			fresh := dial(t, addr) // a new connection is not let through either
			fresh.say("new")
			fresh.wantSilence()

			n.HealAll()
			c.wantAnswer("two")
			fresh.wantAnswer("new")
		})
	}
}

func TestCutLeavesOthersAlone(t *testing.T) {
	n := New()
	t.Cleanup(func() { n.Close() })
	server := echoServer(t)
	ab, err := n.ExposeTo("a", "b", server)
	if err != nil {
		t.Fatal(err)
	}
	cb, err := n.ExposeTo("c", "b", server)
	if err != nil {
		t.Fatal(err)
	}
	n.Cut("a", "b")
	c := dial(t, cb)
	c.say("through")
	c.wantAnswer("through")
	a := dial(t, ab)
	a.say("held")
	a.wantSilence()
}

func TestResetBreaksConnections(t *testing.T) {
	n := New()
	t.Cleanup(func() { n.Close() })
	addr, err := n.ExposeTo("a", "b", echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	c.say("one")
	c.wantAnswer("one")
	n.Reset("b", "a")
	if _, open := <-c.answers; open {
		t.Error("the connection still answers")
	}
	again := dial(t, addr)
	again.say("two")
	again.wantAnswer("two")
}

// The rules of a process hold for it, and not for others at the same address.
func TestDiallersAreFoundByProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("diallers are found in /proc")
	}
	n := New()
	t.Cleanup(func() { n.Close() })
	addr, err := n.Expose("b", echoServer(t))
	if err != nil {
		t.Fatal(err)
	}
	n.Process("nobody", func() int { return 0 })
	n.Cut(Anyone, "b") // whoever is not known
	stranger := dial(t, addr)
	stranger.say("held")
	stranger.wantSilence()

	n.Process("this", os.Getpid)
	known := dial(t, addr)
	known.say("through")
	known.wantAnswer("through")
	n.Cut("this", "b")
	known.say("held too")
	known.wantSilence()
}

func TestDeadServerRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	n := New()
	t.Cleanup(func() { n.Close() })
	addr, err := n.ExposeTo("a", "b", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return // the reset was faster
	}
	defer conn.Close()
	if got, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes from a server that is down", got)
	}
}
