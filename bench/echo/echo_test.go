package echo

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
)

func TestEchoServesUntilItsInputEnds(t *testing.T) {
	stdin, parent := io.Pipe()
	child, stdout := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- Serve(stdin, stdout) }()
	addr, err := bufio.NewReader(child).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	to, err := grpcpool.Dial([]string{strings.TrimSpace(addr)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := calls.Report(ctx, to.Conn(1, 0, 0), "mh-1", 0); err != nil {
		t.Errorf("the echo server answered %v", err)
	}
	parent.Close()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("it ended with %v", err)
		}
	case <-ctx.Done():
		t.Fatal("it outlives its input")
	}
}
