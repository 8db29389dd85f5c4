package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/localcluster"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

type clientConn = grpc.ClientConnInterface

// reads asks one replica for a meeting all the time, whether it answers or not, so that many
// questions wait at its door when it goes on.
type reads struct {
	end     context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	answers []readAnswer
}

type readAnswer struct {
	began time.Time
	token uint64 // 0: no such meeting
	how   string
}

const readInterval = 3 * time.Millisecond

func startReads(t *testing.T, r *localcluster.Replica, meeting string) *reads {
	t.Helper()
	client := assignments(t, r)
	ctx, cancel := context.WithCancel(context.Background())
	h := &reads{end: cancel}
	h.running.Go(func() {
		ticker := time.NewTicker(readInterval)
		defer ticker.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			h.running.Go(func() { h.ask(client, meeting, i%4 == 0) })
		}
	})
	t.Cleanup(func() {
		cancel()
		h.running.Wait()
	})
	return h
}

// ask reads the meeting, or joins it: what a join finds standing must be as fresh as a read.
func (h *reads) ask(client conclavev1.AssignmentServiceClient, meeting string, asJoin bool) {
	ctx, cancel := context.WithTimeout(context.Background(), runPatience)
	defer cancel()
	answer := readAnswer{began: time.Now(), how: "read"}
	var err error
	if asJoin {
		answer.how = "join"
		var resp *conclavev1.AssignMeetingResponse
		resp, err = client.AssignMeeting(ctx, &conclavev1.AssignMeetingRequest{MeetingId: meeting})
		answer.token = resp.GetAssignment().GetFencingToken()
	} else {
		var resp *conclavev1.GetAssignmentResponse
		resp, err = client.GetAssignment(ctx, &conclavev1.GetAssignmentRequest{MeetingId: meeting})
		answer.token = resp.GetAssignment().GetFencingToken()
	}
	if err != nil && status.Code(err) != codes.NotFound {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers = append(h.answers, answer)
}

// collect waits for so many more answers.
func (h *reads) collect(t *testing.T, n int) {
	t.Helper()
	count := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.answers)
	}
	before := count()
	until(t, settlePatience, "answers to reads", func() error {
		if now := count() - before; now < n {
			return fmt.Errorf("%d of %d", now, n)
		}
		return nil
	})
}

// judge wants the assignment, or a newer one, from every question that was asked after it was
// acknowledged, at a time that has passed.
func (h *reads) judge(t *testing.T, acknowledged *conclavev1.Assignment, at time.Time) {
	t.Helper()
	h.end()
	h.running.Wait()
	asked, stale := 0, 0
	for _, a := range h.answers {
		if a.began.Before(at) {
			continue // at the same time as the change: either answer is right
		}
		if asked++; a.token < acknowledged.FencingToken {
			stale++
			t.Logf("a %s that began %v after token %d was acknowledged was answered with %d",
				a.how, a.began.Sub(at), acknowledged.FencingToken, a.token)
		}
	}
	t.Logf("%d of %d answers were to questions asked after the meeting had moved", asked, len(h.answers))
	if stale > 0 {
		t.Errorf("%d of %d answers were from the past", stale, asked)
	}
	if asked == 0 {
		t.Error("no question was answered: nothing is proven")
	}
}
