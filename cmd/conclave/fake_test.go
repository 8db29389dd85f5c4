package main

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// outcome is what a user sees of one command line.
type outcome struct {
	code           int
	stdout, stderr string
}

// execute runs a command line without any environment variable.
func execute(t *testing.T, args ...string) outcome {
	t.Helper()
	return executeWith(t, nil, args...)
}

// executeWith runs a command line with the variables given, and no others.
func executeWith(t *testing.T, environment map[string]string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	getenv := func(name string) string { return environment[name] }
	code := run(t.Context(), args, &stdout, &stderr, getenv)
	return outcome{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// fakeReplica serves conclave.v1 on a loopback port. It records what it is asked, answers with
// what it is given, and pages in the pages it is given.
type fakeReplica struct {
	conclavev1.UnimplementedAssignmentServiceServer
	conclavev1.UnimplementedRegistryServiceServer
	conclavev1.UnimplementedClusterServiceServer

	address string
	// failure, when set, is the answer to everything.
	failure error
	// block, when set, holds every call until the caller gives up.
	block bool

	status      *conclavev1.GetStatusResponse
	handlers    []*conclavev1.MediaHandler
	controllers []*conclavev1.MeetingController
	assignments []*conclavev1.Assignment
	created     bool
	ended       bool
	// maxPage makes pages smaller than callers ask for.
	maxPage int

	mu       sync.Mutex
	requests []proto.Message
}

// start listens and serves until the test ends.
func (f *fakeReplica) start(t *testing.T) *fakeReplica {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	server := grpc.NewServer(grpc.UnaryInterceptor(f.intercept))
	conclavev1.RegisterAssignmentServiceServer(server, f)
	conclavev1.RegisterRegistryServiceServer(server, f)
	conclavev1.RegisterClusterServiceServer(server, f)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return f
}

func (f *fakeReplica) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f.mu.Lock()
	f.requests = append(f.requests, proto.Clone(request.(proto.Message)))
	f.mu.Unlock()
	if f.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if f.failure != nil {
		return nil, f.failure
	}
	return handle(ctx, request)
}

// asked returns the requests so far.
func (f *fakeReplica) asked() []proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

func (f *fakeReplica) GetStatus(context.Context, *conclavev1.GetStatusRequest) (*conclavev1.GetStatusResponse, error) {
	return f.status, nil
}

func (f *fakeReplica) ListMediaHandlers(_ context.Context, request *conclavev1.ListMediaHandlersRequest) (*conclavev1.ListMediaHandlersResponse, error) {
	page, next := pageOf(f.handlers, request.GetPageSize(), request.GetPageToken(), f.maxPage)
	return &conclavev1.ListMediaHandlersResponse{MediaHandlers: page, NextPageToken: next, Index: f.nextIndex()}, nil
}

func (f *fakeReplica) GetMediaHandler(context.Context, *conclavev1.GetMediaHandlerRequest) (*conclavev1.GetMediaHandlerResponse, error) {
	return &conclavev1.GetMediaHandlerResponse{MediaHandler: f.handlers[0], Index: f.nextIndex()}, nil
}

func (f *fakeReplica) ListMeetingControllers(_ context.Context, request *conclavev1.ListMeetingControllersRequest) (*conclavev1.ListMeetingControllersResponse, error) {
	page, next := pageOf(f.controllers, request.GetPageSize(), request.GetPageToken(), f.maxPage)
	return &conclavev1.ListMeetingControllersResponse{MeetingControllers: page, NextPageToken: next, Index: f.nextIndex()}, nil
}

func (f *fakeReplica) GetMeetingController(context.Context, *conclavev1.GetMeetingControllerRequest) (*conclavev1.GetMeetingControllerResponse, error) {
	return &conclavev1.GetMeetingControllerResponse{MeetingController: f.controllers[0], Index: f.nextIndex()}, nil
}

func (f *fakeReplica) AssignMeeting(context.Context, *conclavev1.AssignMeetingRequest) (*conclavev1.AssignMeetingResponse, error) {
	return &conclavev1.AssignMeetingResponse{Assignment: f.assignments[0], Created: f.created}, nil
}

func (f *fakeReplica) GetAssignment(context.Context, *conclavev1.GetAssignmentRequest) (*conclavev1.GetAssignmentResponse, error) {
	return &conclavev1.GetAssignmentResponse{Assignment: f.assignments[0], Index: f.nextIndex()}, nil
}

func (f *fakeReplica) EndMeeting(context.Context, *conclavev1.EndMeetingRequest) (*conclavev1.EndMeetingResponse, error) {
	return &conclavev1.EndMeetingResponse{Ended: f.ended}, nil
}

func (f *fakeReplica) ListAssignments(_ context.Context, request *conclavev1.ListAssignmentsRequest) (*conclavev1.ListAssignmentsResponse, error) {
	page, next := pageOf(f.assignments, request.GetPageSize(), request.GetPageToken(), f.maxPage)
	return &conclavev1.ListAssignmentsResponse{Assignments: page, NextPageToken: next, Index: f.nextIndex()}, nil
}

// nextIndex moves with every request, as the log does between two pages: 101, 102, …
func (f *fakeReplica) nextIndex() uint64 { return 100 + uint64(len(f.asked())) }

// pageOf cuts one page; the token is the offset of the next one.
func pageOf[Item any](items []Item, size uint32, token string, maxPage int) ([]Item, string) {
	start, _ := strconv.Atoi(token)
	end := min(start+int(size), len(items))
	if maxPage > 0 {
		end = min(end, start+maxPage)
	}
	if end == len(items) {
		return items[start:], ""
	}
	return items[start:end], strconv.Itoa(end)
}

// unusedAddress is a loopback address at which nobody listens.
func unusedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// silentAddress is one that accepts connections and never says a word, as a stopped process does.
func silentAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}
