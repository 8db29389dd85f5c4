package sim

import (
	"context"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

func joinRequest(key Key) *conclavev1.AssignMeetingRequest {
	return &conclavev1.AssignMeetingRequest{MeetingId: key.Meeting, Region: key.Region}
}

func TestDialNeedsAnAddress(t *testing.T) {
	for _, targets := range []string{"", " , "} {
		if cluster, err := Dial(targets, 0); err == nil {
			cluster.Close()
			t.Errorf("Dial(%q) succeeded", targets)
		}
	}
}

func TestCallMovesOnFromABrokenReplica(t *testing.T) {
	cluster, replicas := startReplicas(t, 3)
	replicas[0].broken.Store(true)
	replicas[2].broken.Store(true)
	for range 6 {
		if err := NewMediaHandler(cluster, MediaHandlerConfig{ID: "mh-1", Region: "eu"}).Register(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := replicas[1].calls.Load(); n != 6 {
		t.Errorf("the working replica answered %d calls, want 6", n)
	}
	if replicas[0].calls.Load() == 0 || replicas[2].calls.Load() == 0 {
		t.Error("the replicas do not take turns")
	}
}

func TestCallRetriesOnlyWhatMayChange(t *testing.T) {
	cluster, _ := startReplicas(t, 2)
	for code, wantRetry := range map[codes.Code]bool{
		codes.Unavailable: true, codes.DeadlineExceeded: true, codes.ResourceExhausted: true,
		codes.NotFound: false, codes.FailedPrecondition: false, codes.InvalidArgument: false, codes.Internal: false,
	} {
		attempts := 0
		err := cluster.Call(t.Context(), func(context.Context, grpc.ClientConnInterface) error {
			if attempts++; attempts < 3 {
				return status.Error(code, "test")
			}
			return nil
		})
		if wantRetry && (err != nil || attempts != 3) {
			t.Errorf("%s: %d attempts, %v; want success at the third", code, attempts, err)
		}
		if !wantRetry && (status.Code(err) != code || attempts != 1) {
			t.Errorf("%s: %d attempts, %v; want the error of the first", code, attempts, err)
		}
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	cluster, _ := startReplicas(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	err := cluster.Call(ctx, func(context.Context, grpc.ClientConnInterface) error {
		cancel()
		return status.Error(codes.Unavailable, "still no leader")
	})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want the last answer", err)
	}
}

func TestReason(t *testing.T) {
	detailed, err := status.New(codes.Unavailable, "no").WithDetails(&errdetails.ErrorInfo{Domain: "conclave", Reason: "NO_LEADER"})
	if err != nil {
		t.Fatal(err)
	}
	if got := Reason(detailed.Err()); got != "NO_LEADER" {
		t.Errorf("with ErrorInfo: %q", got)
	}
	if got := Reason(status.Error(codes.Unavailable, "no")); got != "Unavailable" {
		t.Errorf("without ErrorInfo: %q", got)
	}
}

func TestRetryDelayStaysWithinBounds(t *testing.T) {
	for round := -1; round < 70; round++ {
		if delay := retryDelay(round); delay < retryBase/2 || delay > retryMax {
			t.Errorf("round %d: %s", round, delay)
		}
	}
}

func TestPaceSpreadsAndForgivesOutages(t *testing.T) {
	p := newPace(1000)
	ctx, cancel := context.WithCancel(t.Context())
	before := time.Now()
	for range 20 {
		if !p.wait(ctx) {
			t.Fatal("ended early")
		}
	}
	if took := time.Since(before); took < 19*time.Millisecond {
		t.Errorf("20 turns at 1000/s took %s", took)
	}
	p.next = time.Now().Add(-time.Hour)
	p.wait(ctx)
	if behind := time.Since(p.next); behind > time.Second {
		t.Errorf("an hour of outage is caught up with: %s behind", behind)
	}
	cancel()
	if p.wait(ctx) {
		t.Error("goes on after the end")
	}
}
