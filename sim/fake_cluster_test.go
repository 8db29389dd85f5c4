package sim

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// fakeState is what the replicas of a fake cluster share: a cluster without consensus.
type fakeState struct {
	mu          sync.Mutex
	handlers    map[string]*conclavev1.MediaHandler
	controllers map[string]*conclavev1.MeetingController
	assignments map[Key][]*conclavev1.Assignment // by rising token
	token       uint64
	hosted      map[string][]*darktowerv1.HostedMeeting // as listed in the last heartbeat
	release     []*darktowerv1.HostedMeeting            // for the next comprehensive heartbeat
	reports     map[string]*darktowerv1.SendLoadReportRequest
	legacyCalls int
}

// fakeReplica serves just enough of the contract over a fakeState.
type fakeReplica struct {
	darktowerv1.UnimplementedMediaHandlerRegistryServiceServer
	darktowerv1.UnimplementedGlobalControllerServiceServer
	conclavev1.UnimplementedAssignmentServiceServer
	conclavev1.UnimplementedRegistryServiceServer
	*fakeState
	address string
	broken  atomic.Bool // answers UNAVAILABLE to everything
	calls   atomic.Int64
}

func newFakeState() *fakeState {
	return &fakeState{
		handlers:    make(map[string]*conclavev1.MediaHandler),
		controllers: make(map[string]*conclavev1.MeetingController),
		assignments: make(map[Key][]*conclavev1.Assignment),
		hosted:      make(map[string][]*darktowerv1.HostedMeeting),
		reports:     make(map[string]*darktowerv1.SendLoadReportRequest),
	}
}

// startReplicas serves n replicas over one state and connects to all of them.
func startReplicas(t *testing.T, n int) (*Cluster, []*fakeReplica) {
	t.Helper()
	state := newFakeState()
	var replicas []*fakeReplica
	var addresses []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		replica := &fakeReplica{fakeState: state, address: listener.Addr().String()}
		server := grpc.NewServer(grpc.UnaryInterceptor(replica.intercept))
		for _, legacy := range []bool{false, true} {
			mh, mc := darktowerv1.MediaHandlerRegistryService_ServiceDesc, darktowerv1.GlobalControllerService_ServiceDesc
			mh.ServiceName, mc.ServiceName = underPackage(mh.ServiceName, legacy), underPackage(mc.ServiceName, legacy)
			server.RegisterService(&mh, replica)
			server.RegisterService(&mc, replica)
		}
		conclavev1.RegisterAssignmentServiceServer(server, replica)
		conclavev1.RegisterRegistryServiceServer(server, replica)
		go server.Serve(listener)
		t.Cleanup(server.Stop)
		replicas = append(replicas, replica)
		addresses = append(addresses, replica.address)
	}
	cluster, err := Dial(strings.Join(addresses, ","), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cluster.Close() })
	return cluster, replicas
}

func (r *fakeReplica) intercept(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	r.calls.Add(1)
	if r.broken.Load() {
		return nil, status.Error(codes.Unavailable, "broken replica")
	}
	if method, _ := grpc.Method(ctx); strings.HasPrefix(method, "/"+legacyPackage+".") && !strings.HasPrefix(method, "/"+currentPackage+".") {
		r.mu.Lock()
		r.legacyCalls++
		r.mu.Unlock()
	}
	return next(ctx, request)
}

func (r *fakeReplica) RegisterMH(_ context.Context, in *darktowerv1.RegisterMHRequest) (*darktowerv1.RegisterMHResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handlers[in.GetHandlerId()] = &conclavev1.MediaHandler{HandlerId: in.GetHandlerId(), Region: in.GetRegion(), Zone: in.GetZone()}
	return &darktowerv1.RegisterMHResponse{Accepted: true, LoadReportIntervalMs: 40}, nil
}

func (r *fakeReplica) SendLoadReport(_ context.Context, in *darktowerv1.SendLoadReportRequest) (*darktowerv1.SendLoadReportResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	handler := r.handlers[in.GetHandlerId()]
	if handler == nil {
		return nil, status.Error(codes.NotFound, "not registered")
	}
	handler.Health = in.GetHealth()
	r.reports[in.GetHandlerId()] = in
	return &darktowerv1.SendLoadReportResponse{Acknowledged: true}, nil
}

func (r *fakeReplica) RegisterMC(_ context.Context, in *darktowerv1.RegisterMCRequest) (*darktowerv1.RegisterMCResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.controllers[in.GetId()] = &conclavev1.MeetingController{Id: in.GetId(), Region: in.GetRegion(), GrpcEndpoint: in.GetGrpcEndpoint()}
	return &darktowerv1.RegisterMCResponse{Accepted: true, FastHeartbeatIntervalMs: 20, ComprehensiveHeartbeatIntervalMs: 60}, nil
}

func (r *fakeReplica) FastHeartbeat(_ context.Context, in *darktowerv1.FastHeartbeatRequest) (*darktowerv1.FastHeartbeatResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	controller := r.controllers[in.GetControllerId()]
	if controller == nil {
		return nil, status.Error(codes.NotFound, "not registered")
	}
	controller.Health = in.GetHealth()
	return &darktowerv1.FastHeartbeatResponse{Acknowledged: true}, nil
}

func (r *fakeReplica) ComprehensiveHeartbeat(_ context.Context, in *darktowerv1.ComprehensiveHeartbeatRequest) (*darktowerv1.ComprehensiveHeartbeatResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	controller := r.controllers[in.GetControllerId()]
	if controller == nil {
		return nil, status.Error(codes.NotFound, "not registered")
	}
	controller.Health = in.GetHealth()
	r.hosted[in.GetControllerId()] = in.GetHosted()
	release := r.release
	r.release = nil
	for _, held := range in.GetHosted() {
		live := r.live(Key{Meeting: held.GetMeetingId(), Region: held.GetRegion()})
		if live == nil && r.token > 0 || live != nil && live.GetFencingToken() > held.GetFencingToken() {
			release = append(release, held)
		}
	}
	return &darktowerv1.ComprehensiveHeartbeatResponse{Acknowledged: true, Release: release}, nil
}

func (r *fakeReplica) NotifyMeetingEnded(_ context.Context, in *darktowerv1.NotifyMeetingEndedRequest) (*darktowerv1.NotifyMeetingEndedResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := Key{Meeting: in.GetMeetingId(), Region: in.GetRegion()}
	live := r.live(key)
	if live == nil || live.GetFencingToken() != in.GetFencingToken() {
		return nil, status.Error(codes.FailedPrecondition, "fenced")
	}
	r.end(key)
	return &darktowerv1.NotifyMeetingEndedResponse{Acknowledged: true}, nil
}

// AssignMeeting holds the lock while it notifies: one assignment at a time is enough here.
func (r *fakeReplica) AssignMeeting(ctx context.Context, in *conclavev1.AssignMeetingRequest) (*conclavev1.AssignMeetingResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := Key{Meeting: in.GetMeetingId(), Region: in.GetRegion()}
	if live := r.live(key); live != nil {
		return &conclavev1.AssignMeetingResponse{Assignment: live}, nil
	}
	r.token++
	var chosen *conclavev1.MeetingController
	for _, controller := range r.controllers {
		if controller.GetRegion() == key.Region {
			chosen = controller
		}
	}
	if chosen == nil {
		return nil, status.Error(codes.Unavailable, "no meeting controller")
	}
	assignment := &conclavev1.Assignment{
		MeetingId: key.Meeting, Region: key.Region, FencingToken: r.token, McId: chosen.GetId(),
		MhAssignments: []*darktowerv1.MhAssignment{{MhId: "mh-" + key.Region + "-001"}},
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(chosen.GetGrpcEndpoint(), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := darktowerv1.NewMeetingControllerServiceClient(conn).AssignMeetingWithMh(ctx, &darktowerv1.AssignMeetingWithMhRequest{
		MeetingId: key.Meeting, Region: key.Region, FencingToken: r.token, MhAssignments: assignment.GetMhAssignments(),
	})
	if err != nil || !answer.GetAccepted() {
		return nil, status.Error(codes.Unavailable, "not accepted")
	}
	r.assignments[key] = append(r.assignments[key], assignment)
	return &conclavev1.AssignMeetingResponse{Assignment: assignment, Created: true}, nil
}

func (r *fakeReplica) EndMeeting(_ context.Context, in *conclavev1.EndMeetingRequest) (*conclavev1.EndMeetingResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := Key{Meeting: in.GetMeetingId(), Region: in.GetRegion()}
	if r.live(key) == nil {
		return nil, status.Error(codes.NotFound, "no assignment")
	}
	r.end(key)
	return &conclavev1.EndMeetingResponse{Ended: true}, nil
}

// live returns the live assignment of a meeting, or nil. The caller holds mu.
func (s *fakeState) live(key Key) *conclavev1.Assignment {
	all := s.assignments[key]
	if len(all) == 0 || all[len(all)-1].GetEndedAt() != nil {
		return nil
	}
	return all[len(all)-1]
}

// end ends the live assignment in a copy: answers that are being sent share the original.
// The caller holds mu.
func (s *fakeState) end(key Key) {
	all := s.assignments[key]
	ended := proto.Clone(all[len(all)-1]).(*conclavev1.Assignment)
	ended.EndedAt = timestamppb.Now()
	all[len(all)-1] = ended
}

// fakePageSize is small, so that every listing has several pages.
const fakePageSize = 3

func (r *fakeReplica) ListAssignments(_ context.Context, in *conclavev1.ListAssignmentsRequest) (*conclavev1.ListAssignmentsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*conclavev1.Assignment
	for _, assignments := range r.assignments {
		for _, assignment := range assignments {
			if in.GetIncludeEnded() || assignment.GetEndedAt() == nil {
				all = append(all, assignment)
			}
		}
	}
	slices.SortFunc(all, func(a, b *conclavev1.Assignment) int { return cmp.Compare(a.GetFencingToken(), b.GetFencingToken()) })
	from, _ := strconv.Atoi(in.GetPageToken())
	to := min(from+fakePageSize, len(all))
	response := &conclavev1.ListAssignmentsResponse{Assignments: all[min(from, to):to]}
	if to < len(all) {
		response.NextPageToken = strconv.Itoa(to)
	}
	return response, nil
}

func (r *fakeReplica) ListMediaHandlers(context.Context, *conclavev1.ListMediaHandlersRequest) (*conclavev1.ListMediaHandlersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &conclavev1.ListMediaHandlersResponse{}
	for _, handler := range r.handlers {
		response.MediaHandlers = append(response.MediaHandlers, &conclavev1.MediaHandler{HandlerId: handler.GetHandlerId(), Health: handler.GetHealth()})
	}
	return response, nil
}

func (r *fakeReplica) ListMeetingControllers(context.Context, *conclavev1.ListMeetingControllersRequest) (*conclavev1.ListMeetingControllersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	response := &conclavev1.ListMeetingControllersResponse{}
	for _, controller := range r.controllers {
		response.MeetingControllers = append(response.MeetingControllers, &conclavev1.MeetingController{Id: controller.GetId(), Health: controller.GetHealth()})
	}
	return response, nil
}

func (r *fakeReplica) GetMediaHandler(_ context.Context, in *conclavev1.GetMediaHandlerRequest) (*conclavev1.GetMediaHandlerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &conclavev1.GetMediaHandlerResponse{MediaHandler: &conclavev1.MediaHandler{
		HandlerId: in.GetHandlerId(), Health: r.handlers[in.GetHandlerId()].GetHealth()}}, nil
}

func (r *fakeReplica) GetMeetingController(_ context.Context, in *conclavev1.GetMeetingControllerRequest) (*conclavev1.GetMeetingControllerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &conclavev1.GetMeetingControllerResponse{MeetingController: &conclavev1.MeetingController{
		Id: in.GetId(), Health: r.controllers[in.GetId()].GetHealth()}}, nil
}

// eventually polls a condition that other goroutines make true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(5 * time.Second)
	for !condition() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// testClock is a clock that a test moves by hand.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newTestClock() *testClock { return &testClock{now: time.Unix(1_000_000, 0)} }

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
