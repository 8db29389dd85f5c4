package grpcsvc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// The reasons are written out: clients hold them as text.
func TestErrors(t *testing.T) {
	tests := []struct {
		err    error
		code   codes.Code
		reason string
		retry  bool
		names  string // what the message must name
	}{
		{invalidField(&FieldError{"hosted[3].region", "must be short"}), codes.InvalidArgument, "INVALID_FIELD", false, "hosted[3].region"},
		{notRegistered(commandv1.Kind_KIND_MEDIA_HANDLER, "mh-7"), codes.NotFound, "NOT_REGISTERED", false, `media handler "mh-7"`},
		{notRegistered(commandv1.Kind_KIND_MEETING_CONTROLLER, "mc-7"), codes.NotFound, "NOT_REGISTERED", false, `meeting controller "mc-7"`},
		{noAssignment("m-1", "eu"), codes.NotFound, "NO_ASSIGNMENT", false, `"m-1" has no assignment in region "eu"`},
		{noMeetingControllers("eu"), codes.Unavailable, "NO_MEETING_CONTROLLERS", true, `"eu"`},
		{noMediaHandlers("eu"), codes.Unavailable, "NO_MEDIA_HANDLERS", true, `"eu"`},
		{controllersRejected(darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY), codes.Unavailable, "CONTROLLERS_AT_CAPACITY", true, "at capacity"},
		{controllersRejected(darktowerv1.RejectionReason_REJECTION_REASON_DRAINING), codes.Unavailable, "CONTROLLERS_DRAINING", true, "draining"},
		{controllersRejected(darktowerv1.RejectionReason_REJECTION_REASON_UNHEALTHY), codes.Unavailable, "CONTROLLERS_UNHEALTHY", true, "unhealthy"},
		{controllersRejected(darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED), codes.Unavailable, "CONTROLLERS_UNHEALTHY", true, "unhealthy"},
		{controllersRejected(99), codes.Unavailable, "CONTROLLERS_UNHEALTHY", true, "unhealthy"},
		{controllersUnreachable(), codes.Unavailable, "CONTROLLERS_UNREACHABLE", true, "timed out"},
		{noLeader(), codes.Unavailable, "NO_LEADER", true, "leader"},
		{fenced("m-1", "eu", 42), codes.FailedPrecondition, "FENCED", false, "token 42"},
		{errOverloaded, codes.ResourceExhausted, "OVERLOADED", true, "queued"},
	}
	for _, test := range tests {
		st := status.Convert(test.err)
		if st.Code() != test.code {
			t.Errorf("%v: code %v, want %v", test.err, st.Code(), test.code)
		}
		if got := ReasonOf(test.err); got != test.reason {
			t.Errorf("%v: reason %q, want %q", test.err, got, test.reason)
		}
		if !strings.Contains(st.Message(), test.names) {
			t.Errorf("%v does not name %s", test.err, test.names)
		}
		var delay bool
		for _, detail := range st.Details() {
			if retry, ok := detail.(*errdetails.RetryInfo); ok {
				delay = retry.GetRetryDelay().AsDuration() > 0
			}
		}
		if delay != test.retry {
			t.Errorf("%v: tells when to retry: %v, want %v", test.err, delay, test.retry)
		}
	}
}

func TestErrorMetadata(t *testing.T) {
	tests := []struct {
		err        error
		key, value string
	}{
		{invalidField(&FieldError{"page_size", "must be at most 1000"}), "field", "page_size"},
		{noMediaHandlers("eu"), "region", "eu"},
		{fenced("m-1", "eu", 42), "fencing_token", "42"},
	}
	for _, test := range tests {
		info := status.Convert(test.err).Details()[0].(*errdetails.ErrorInfo)
		if info.GetDomain() != "conclave" || info.GetMetadata()[test.key] != test.value {
			t.Errorf("%v: got %v, want %s = %s in domain conclave", test.err, info, test.key, test.value)
		}
	}
}

func TestReasonOf(t *testing.T) {
	foreign, err := status.New(codes.Unavailable, "full").WithDetails(&errdetails.ErrorInfo{Domain: "elsewhere", Reason: "OVERLOADED"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("disk full"), ""},
		{status.Error(codes.Unavailable, "plain"), ""},
		{foreign.Err(), ""},
		{fmt.Errorf("forwarding to gc-2: %w", noLeader()), ReasonNoLeader},
	}
	for _, test := range tests {
		if got := ReasonOf(test.err); got != test.want {
			t.Errorf("%v: got %q, want %q", test.err, got, test.want)
		}
	}
}

func TestErrorKeepsItsCodeWhenDetailsCannotBeEncoded(t *testing.T) {
	if err := noAssignment("\xff", "eu"); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
}
