package sim

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// Script decides how a meeting controller behaves on each AssignMeetingWithMh. It is called from
// many goroutines at once. Without a script a controller keeps all of its rules.
type Script func(*darktowerv1.AssignMeetingWithMhRequest) Step

// Step is the behaviour for one notification; the functions below make them.
type Step struct {
	act    action
	reason darktowerv1.RejectionReason
	code   codes.Code
	delay  time.Duration
}

type action int

const (
	actAccept action = iota
	actReject
	actFail
	actHang
	actAcceptThenDie
	actAcceptThenHang
)

// Accept decides by the rules of a meeting controller, as without a script.
func Accept() Step { return Step{act: actAccept} }

// Reject answers with the reason and remembers nothing.
func Reject(reason darktowerv1.RejectionReason) Step { return Step{act: actReject, reason: reason} }

// Fail answers with a gRPC error and remembers nothing.
func Fail(code codes.Code) Step { return Step{act: actFail, code: code} }

// Hang takes nothing and never answers: until the caller gives up or the controller stops.
func Hang() Step { return Step{act: actHang} }

// AcceptThenDie takes the meeting and crashes before the answer goes out.
func AcceptThenDie() Step { return Step{act: actAcceptThenDie} }

// AcceptThenHang takes the meeting, but the answer never goes out.
func AcceptThenHang() Step { return Step{act: actAcceptThenHang} }

// Slow decides by the rules after a delay, even when the caller has given up by then: a real
// controller that is slow does not notice either.
func Slow(delay time.Duration) Step { return Step{act: actAccept, delay: delay} }

// Always repeats one step.
func Always(step Step) Script {
	return func(*darktowerv1.AssignMeetingWithMhRequest) Step { return step }
}

// Cycle goes through the steps in order, over and over. It needs at least one step.
func Cycle(steps ...Step) Script {
	var turn atomic.Uint64
	return func(*darktowerv1.AssignMeetingWithMhRequest) Step {
		return steps[(turn.Add(1)-1)%uint64(len(steps))]
	}
}
