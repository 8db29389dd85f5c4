package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func TestEchoServesUntilItsInputEnds(t *testing.T) {
	stdin, parent := io.Pipe()
	child, stdout := io.Pipe()
	served := make(chan error, 1)
	go func() { served <- serveEcho(stdin, stdout) }()
	addr, err := bufio.NewReader(child).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	to, err := dial([]string{strings.TrimSpace(addr)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer to.close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := echoCaller(to, 1, 0)(ctx, 0); err != nil {
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

// otherMeeting is a cluster that is quick and wrong.
type otherMeeting struct{ grpc.ClientConnInterface }

func (otherMeeting) Invoke(_ context.Context, _ string, _, reply any, _ ...grpc.CallOption) error {
	switch reply := reply.(type) {
	case *conclavev1.GetAssignmentResponse:
		reply.Assignment = &conclavev1.Assignment{MeetingId: "another"}
	case *conclavev1.AssignMeetingResponse:
		reply.Assignment = &conclavev1.Assignment{MeetingId: "another"}
	}
	return nil
}

func TestWrongAnswersAreFailures(t *testing.T) {
	for _, w := range workloads {
		if got := reasonOf(w.call(t.Context(), otherMeeting{}, "run", 1)); got != "WRONG_ANSWER" {
			t.Errorf("%s: a wrong answer counts as %s", w.name, got)
		}
	}
}
