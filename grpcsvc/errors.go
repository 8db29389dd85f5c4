package grpcsvc

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// ErrorDomain is the google.rpc.ErrorInfo domain of every error that Conclave makes.
const ErrorDomain = "conclave"

// Reasons, as they stand in google.rpc.ErrorInfo. Clients branch on them: they never change.
const (
	ReasonInvalidField           = "INVALID_FIELD"
	ReasonNotRegistered          = "NOT_REGISTERED"
	ReasonNoAssignment           = "NO_ASSIGNMENT"
	ReasonNoMeetingControllers   = "NO_MEETING_CONTROLLERS"
	ReasonNoMediaHandlers        = "NO_MEDIA_HANDLERS"
	ReasonControllersAtCapacity  = "CONTROLLERS_AT_CAPACITY"
	ReasonControllersDraining    = "CONTROLLERS_DRAINING"
	ReasonControllersUnhealthy   = "CONTROLLERS_UNHEALTHY"
	ReasonControllersUnreachable = "CONTROLLERS_UNREACHABLE"
	ReasonNoLeader               = "NO_LEADER"
	ReasonFenced                 = "FENCED"
	ReasonOverloaded             = "OVERLOADED"
)

// How long a client is asked to wait before it tries again.
const (
	// retryElection is about what electing a leader takes.
	retryElection = 500 * time.Millisecond
	// retryCandidates gives nodes the time to register, report or free a place.
	retryCandidates = 2 * time.Second
	// retryQueue lets a queue drain that is emptied many times a second.
	retryQueue = 200 * time.Millisecond
)

// ReasonOf returns the reason that Conclave gave with a gRPC error, or "" when there is none:
// for nil, for errors that are not gRPC statuses, and for the reasons of other systems.
func ReasonOf(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return ""
	}
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == ErrorDomain {
			return info.GetReason()
		}
	}
	return ""
}

// invalidField reports a request that breaks a rule; trying it again cannot help.
func invalidField(bad *FieldError) error {
	return statusError(codes.InvalidArgument, ReasonInvalidField, bad.Error(),
		map[string]string{"field": bad.Field})
}

// notRegistered answers a report from, or a question about, a node that nobody registered.
func notRegistered(kind commandv1.Kind, id string) error {
	return statusError(codes.NotFound, ReasonNotRegistered, notRegisteredText(kind, id),
		map[string]string{"id": id})
}

func notRegisteredText(kind commandv1.Kind, id string) string {
	noun, call := "media handler", "RegisterMH"
	if kind == commandv1.Kind_KIND_MEETING_CONTROLLER {
		noun, call = "meeting controller", "RegisterMC"
	}
	return fmt.Sprintf("%s %q is not registered: it must call %s first", noun, id, call)
}

// noAssignment answers for a meeting that is not live in a region.
func noAssignment(meetingID, region string) error {
	return statusError(codes.NotFound, ReasonNoAssignment,
		fmt.Sprintf("meeting %q has no assignment in region %q", meetingID, region),
		map[string]string{"meeting_id": meetingID, "region": region})
}

// fenced refuses to end an assignment with a token that is no longer current.
func fenced(meetingID, region string, token uint64) error {
	return statusError(codes.FailedPrecondition, ReasonFenced,
		fmt.Sprintf("fencing token %d of meeting %q in region %q is no longer current", token, meetingID, region),
		map[string]string{"meeting_id": meetingID, "region": region, "fencing_token": strconv.FormatUint(token, 10)})
}

func noMeetingControllers(region string) error {
	return retryable(codes.Unavailable, ReasonNoMeetingControllers,
		fmt.Sprintf("no usable meeting controller in region %q", region),
		map[string]string{"region": region}, retryCandidates)
}

func noMediaHandlers(region string) error {
	return retryable(codes.Unavailable, ReasonNoMediaHandlers,
		fmt.Sprintf("no usable media handler in region %q", region),
		map[string]string{"region": region}, retryCandidates)
}

// controllersRejected reports that every meeting controller that was asked refused; last is the
// reason of the one asked last. One that gives no reason that we know counts as unhealthy: it
// does not take meetings, and not for a reason that will pass by itself.
func controllersRejected(last darktowerv1.RejectionReason) error {
	reason, text := ReasonControllersUnhealthy, "unhealthy"
	switch last {
	case darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY:
		reason, text = ReasonControllersAtCapacity, "at capacity"
	case darktowerv1.RejectionReason_REJECTION_REASON_DRAINING:
		reason, text = ReasonControllersDraining, "draining"
	}
	return retryable(codes.Unavailable, reason,
		"every meeting controller that was asked rejected the meeting; the last one is "+text, nil, retryCandidates)
}

// controllersUnreachable reports that every meeting controller that was asked failed or timed out.
func controllersUnreachable() error {
	return retryable(codes.Unavailable, ReasonControllersUnreachable,
		"every meeting controller that was asked failed or timed out", nil, retryCandidates)
}

// noLeader reports that no leader was found while the caller could wait.
func noLeader() error {
	return retryable(codes.Unavailable, ReasonNoLeader,
		"the cluster has no leader, or this replica cannot reach it", nil, retryElection)
}

// errOverloaded refuses work that would only have waited in a queue. It is made once: it is given most
// often when there is no time for it.
var errOverloaded = retryable(codes.ResourceExhausted, ReasonOverloaded,
	"too much work is queued", nil, retryQueue)

func retryable(code codes.Code, reason, message string, metadata map[string]string, after time.Duration) error {
	return statusError(code, reason, message, metadata,
		&errdetails.RetryInfo{RetryDelay: durationpb.New(after)})
}

func statusError(code codes.Code, reason, message string, metadata map[string]string, more ...protoadapt.MessageV1) error {
	plain := status.New(code, message)
	info := &errdetails.ErrorInfo{Reason: reason, Domain: ErrorDomain, Metadata: metadata}
	detailed, err := plain.WithDetails(append([]protoadapt.MessageV1{info}, more...)...)
	if err != nil {
		// Metadata that is not UTF-8 cannot be encoded: the code matters more than the details.
		return plain.Err()
	}
	return detailed.Err()
}
