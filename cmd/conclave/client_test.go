package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// failure is a gRPC error with details, as replicas make them.
func failure(t *testing.T, code codes.Code, message string, details ...protoadapt.MessageV1) error {
	t.Helper()
	answer, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Err()
}

func TestErrorsAreReadable(t *testing.T) {
	t.Parallel()
	reason := func(name string) *errdetails.ErrorInfo {
		return &errdetails.ErrorInfo{Domain: "conclave", Reason: name}
	}
	retryIn := func(delay time.Duration) *errdetails.RetryInfo {
		return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
	}
	const target = "TARGET"
	tests := []struct {
		name    string
		failure error
		want    string
	}{
		{"reason", failure(t, codes.NotFound, `no assignment of meeting "x" in region "eu"`, reason("NO_ASSIGNMENT")),
			`no assignment of meeting "x" in region "eu" (NO_ASSIGNMENT)`},
		{"retry", failure(t, codes.ResourceExhausted, "too much work queued", reason("OVERLOADED"), retryIn(1500*time.Millisecond)),
			"too much work queued (OVERLOADED); try again in 1.5s"},
		{"retry at once", failure(t, codes.ResourceExhausted, "too much work queued", reason("OVERLOADED"), retryIn(0)),
			"too much work queued (OVERLOADED); try again"},
		{"where to look, and retry", failure(t, codes.Unavailable, `no usable media handler in region "eu"`, retryIn(time.Second), reason("NO_MEDIA_HANDLERS")),
			`no usable media handler in region "eu" (NO_MEDIA_HANDLERS); see 'conclave mh list'; try again in 1s`},
		{"controllers", failure(t, codes.Unavailable, "every meeting controller is full", reason("CONTROLLERS_AT_CAPACITY")),
			"every meeting controller is full (CONTROLLERS_AT_CAPACITY); see 'conclave mc list'"},
		{"no leader", failure(t, codes.Unavailable, "no leader", reason("NO_LEADER")), "no leader (NO_LEADER); see 'conclave status'"},
		{"without a reason", failure(t, codes.Internal, "disk on fire"), target + " answered: disk on fire (Internal)"},
		{"lines become one", failure(t, codes.Internal, "disk\non\x1b[31mfire"), target + " answered: disk on\ufffd[31mfire (Internal)"},
		{"gone", failure(t, codes.Unavailable, "going away"), target + " is not available: going away; try again"},
		{"not a replica", failure(t, codes.Unimplemented, "unknown service"),
			target + " speaks gRPC, but is no Conclave replica of this version: unknown service (Unimplemented)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fake := (&fakeReplica{failure: test.failure}).start(t)
			got := execute(t, "meeting", "show", "x", "--region", "eu", "--target", fake.address)
			want := "conclave: " + strings.ReplaceAll(test.want, target, fake.address) + "\n"
			if got.code != exitFailed || got.stderr != want || got.stdout != "" {
				t.Errorf("got %+v, want exit code 1 and on stderr %q", got, want)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	first, second := unusedAddress(t), unusedAddress(t)
	for _, command := range []string{"status", "mh list", "mh show x", "mc list", "mc show x",
		"meeting assign x", "meeting show x", "meeting list", "meeting end x"} {
		got := execute(t, append(strings.Fields(command), "--target", first+","+second)...)
		want := fmt.Sprintf("conclave: no replica answered at %s, %s; is `conclave serve` running?\n", first, second)
		if got.code != exitFailed || got.stderr != want || got.stdout != "" {
			t.Errorf("%s: got %+v, want exit code 1 and %q", command, got, want)
		}
	}
}

// A refused connection is an answer of sorts: waiting for the rest of the timeout helps nobody.
func TestRefusedConnectionIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	ctx, giveUp := context.WithTimeout(t.Context(), 20*time.Second)
	defer giveUp()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"status", "--timeout", "1h", "--target", unusedAddress(t)}, &stdout, &stderr, func(string) string { return "" })
	if code != exitFailed || !strings.HasPrefix(stderr.String(), "conclave: no replica answered at ") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}

func TestSilentTargetsShareTheTimeout(t *testing.T) {
	t.Parallel()
	start := time.Now()
	got := execute(t, "status", "--timeout", "2s", "--target", silentAddress(t)+","+silentAddress(t)+","+silentAddress(t))
	if elapsed := time.Since(start); got.code != exitFailed || elapsed > 5*time.Second {
		t.Errorf("got %+v after %s, want a failure after about 2s", got, elapsed)
	}
}

func TestFirstTargetThatAnswersIsUsed(t *testing.T) {
	t.Parallel()
	for name, dead := range map[string]func(*testing.T) string{"refused": unusedAddress, "silent": silentAddress} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second, third := (&fakeReplica{}).start(t), (&fakeReplica{}).start(t)
			targets := strings.Join([]string{dead(t), second.address, third.address}, ", ")
			got := execute(t, "mh", "list", "--timeout", "3s", "--target", targets)
			if got.code != exitDone {
				t.Fatalf("exit code %d: %s", got.code, got.stderr)
			}
			if len(second.asked()) != 1 || len(third.asked()) != 0 {
				t.Errorf("the second target was asked %d times and the third %d, want 1 and 0", len(second.asked()), len(third.asked()))
			}
		})
	}
}

// A replica that says no has answered: another one must not be asked to do it again.
func TestRefusalIsNotRetriedElsewhere(t *testing.T) {
	t.Parallel()
	first := (&fakeReplica{failure: failure(t, codes.Unavailable, "no leader")}).start(t)
	second := (&fakeReplica{assignments: []*conclavev1.Assignment{{}}}).start(t)
	got := execute(t, "meeting", "assign", "x", "--target", first.address+","+second.address)
	if got.code != exitFailed || len(first.asked()) != 1 || len(second.asked()) != 0 {
		t.Errorf("got %+v, first asked %d times and second %d", got, len(first.asked()), len(second.asked()))
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	fake := (&fakeReplica{block: true}).start(t)
	got := execute(t, "mc", "list", "--timeout", "1s", "--target", fake.address)
	want := "conclave: no answer from " + fake.address + " within 1s; try again, or wait longer with --timeout\n"
	if got.code != exitFailed || got.stderr != want {
		t.Errorf("got %+v, want exit code 1 and %q", got, want)
	}
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	blocked := (&fakeReplica{block: true}).start(t)
	for name, target := range map[string]string{"in a call": blocked.address, "while connecting": silentAddress(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(200*time.Millisecond, interrupt)
			var stdout, stderr bytes.Buffer
			code := run(ctx, []string{"mc", "list", "--timeout", "1m", "--target", target}, &stdout, &stderr, func(string) string { return "" })
			if code != exitFailed || stderr.String() != "conclave: interrupted\n" {
				t.Errorf("exit code %d, stderr %q", code, stderr.String())
			}
		})
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	items := []int{1, 2, 3, 4, 5}
	tests := []struct {
		limit    uint32
		want     []int
		wantNext string
	}{
		{0, items, ""}, {1, items[:1], "1"}, {3, items[:3], "3"}, {4, items[:4], "4"}, {5, items, ""}, {9, items, ""},
	}
	for _, test := range tests {
		got, next, err := collect(test.limit, func(size uint32, token string) ([]int, string, error) {
			page, next := pageOf(items, size, token, 2)
			return page, next, nil
		})
		if err != nil || !slices.Equal(got, test.want) || next != test.wantNext {
			t.Errorf("limit %d: got %v, next page %q, error %v; want %v and %q", test.limit, got, next, err, test.want, test.wantNext)
		}
	}
}

func TestCollectEndsOnFailureAndOnRepetition(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, _, err := collect(0, func(uint32, string) ([]int, string, error) { return nil, "", broken }); !errors.Is(err, broken) {
		t.Errorf("got error %v, want that of the page", err)
	}
	if _, _, err := collect(0, func(uint32, string) ([]int, string, error) { return []int{1}, "same", nil }); err == nil {
		t.Error("the same page again and again is no error")
	}
}
