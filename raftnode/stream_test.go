package raftnode

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// listenStream is a stream layer that answers as it is told.
func listenStream(t *testing.T, receive func(hello) answer) *streamLayer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newTestStream(l, receive)
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRaftGetsOnlyConnectionsThatAreWelcome(t *testing.T) {
	heard := make(chan hello, 1)
	s := listenStream(t, func(h hello) answer {
		heard <- h
		if h.To == "gc-1.here" {
			return answer{Standing: standingWelcome}
		}
		return answer{}.refuse("nobody of that name")
	})
	at := s.Listener.Addr().String()

	_, err := s.Dial(serverAddress("gc-1.gone", at), time.Second)
	if err == nil || !strings.Contains(err.Error(), "nobody of that name") {
		t.Errorf("got %v, want the reason of the refusal", err)
	}
	if h := <-heard; h.To != "gc-1.gone" || h.Purpose != forRaft {
		t.Errorf("it heard %+v", h)
	}

	ours, err := s.Dial(serverAddress("gc-1.here", at), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := s.Accept() // the one that was refused is not there
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if ours.LocalAddr().String() != theirs.RemoteAddr().String() {
		t.Error("Raft got another connection than the one that was welcome")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close returned %v", err)
	}
}

// Who says nothing holds nobody up, and is let go.
func TestAStrangerThatSaysNothing(t *testing.T) {
	s := listenStream(t, func(hello) answer { return answer{Standing: standingWelcome} })
	at := s.Listener.Addr().String()
	silent, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	talking, err := s.Dial(raft.ServerAddress(at), time.Second)
	if err != nil {
		t.Fatalf("a replica was held up by a stranger: %v", err)
	}
	talking.Close()
	if err := silent.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the stranger was not let go: %v", err)
	}
}

func TestSeldom(t *testing.T) {
	var s seldom
	if !s.may("a") || s.may("a") || !s.may("b") {
		t.Error("each line may pass once a minute")
	}
}
