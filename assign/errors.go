package assign

import (
	"errors"
	"fmt"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

var (
	// ErrNoMediaHandlers: no usable media handler in the region.
	ErrNoMediaHandlers = errors.New("no media handler of the region can be used")
	// ErrNoControllers: no usable meeting controller in the region.
	ErrNoControllers = errors.New("no meeting controller of the region can be used")
	// ErrUnreachable: every meeting controller that was tried failed or timed out.
	ErrUnreachable = errors.New("no meeting controller that was tried answered")
	// ErrNoAssignment: the meeting has no live assignment.
	ErrNoAssignment = errors.New("the meeting has no live assignment")
	// ErrFenced: the token is no longer the meeting's.
	ErrFenced = errors.New("the fencing token is no longer current")
)

// RejectedError: every meeting controller that was tried and answered refused.
type RejectedError struct {
	// Reason is the last answer's.
	Reason darktowerv1.RejectionReason
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("the meeting controllers refused: %v", e.Reason)
}
