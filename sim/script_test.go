package sim

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

func TestScriptSteps(t *testing.T) {
	draining := darktowerv1.RejectionReason_REJECTION_REASON_DRAINING
	for name, test := range map[string]struct {
		step     Step
		accepted bool
		reason   darktowerv1.RejectionReason
		code     codes.Code
		hosts    bool
		dies     bool
	}{
		"accept":           {step: Accept(), accepted: true, hosts: true},
		"slow":             {step: Slow(time.Millisecond), accepted: true, hosts: true},
		"reject":           {step: Reject(draining), reason: draining},
		"fail":             {step: Fail(codes.Internal), code: codes.Internal},
		"hang":             {step: Hang(), code: codes.DeadlineExceeded},
		"accept then hang": {step: AcceptThenHang(), code: codes.DeadlineExceeded, hosts: true},
		"accept then die":  {step: AcceptThenDie(), code: codes.Unavailable, hosts: true, dies: true},
	} {
		t.Run(name, func(t *testing.T) {
			controller, conn := startController(t, nil, MeetingControllerConfig{Script: Always(test.step)})
			limit := 5 * time.Second
			if test.code == codes.DeadlineExceeded {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			answer, err := darktowerv1.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(ctx, assignRequest(5))
			if status.Code(err) != test.code || answer.GetAccepted() != test.accepted || answer.GetRejectionReason() != test.reason {
				t.Errorf("answer %v, error %v", answer, err)
			}
			if _, hosts := controller.Hosted()[standup]; hosts != test.hosts {
				t.Errorf("hosts the meeting: %t, want %t", hosts, test.hosts)
			}
			if test.dies {
				eventually(t, "the controller is down", controller.Down)
			} else if controller.Down() {
				t.Error("the controller is down")
			}
			if controller.Count(EventAssign, "") != 1 {
				t.Errorf("journal: %+v", controller.Events())
			}
		})
	}
}

func TestSlowStepOutlivesItsCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	controller, conn := startController(t, nil, MeetingControllerConfig{
		Script: func(*darktowerv1.AssignMeetingWithMhRequest) Step {
			cancel() // the caller gives up while the controller is at work
			return Slow(time.Millisecond)
		},
	})
	_, err := darktowerv1.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(ctx, assignRequest(5))
	if status.Code(err) != codes.Canceled {
		t.Fatalf("error %v, want CANCELED", err)
	}
	eventually(t, "accepted all the same", func() bool { return controller.Hosted()[standup].Token == 5 })
}

func TestStopFreesHandlersThatHang(t *testing.T) {
	controller, conn := startController(t, nil, MeetingControllerConfig{Script: Cycle(Hang())})
	failed := make(chan error, 1)
	go func() {
		_, err := darktowerv1.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(t.Context(), assignRequest(5))
		failed <- err
	}()
	eventually(t, "the handler hangs", func() bool { return controller.Count(EventAssign, OutcomeHung) == 1 })
	controller.Stop()
	if err := <-failed; status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want UNAVAILABLE", err)
	}
}

func TestCycleGoesInOrder(t *testing.T) {
	controller, conn := startController(t, nil, MeetingControllerConfig{Script: Cycle(Fail(codes.Aborted), Accept())})
	client := darktowerv1.NewMeetingControllerServiceClient(conn)
	for i, want := range []codes.Code{codes.Aborted, codes.OK, codes.Aborted} {
		if _, err := client.AssignMeetingWithMh(t.Context(), assignRequest(5)); status.Code(err) != want {
			t.Errorf("call %d: %v, want %s", i, err, want)
		}
	}
	controller.SetScript(nil)
	if !mustAssign(t, conn, assignRequest(6)).GetAccepted() {
		t.Error("without a script it does not keep the rules")
	}
}
