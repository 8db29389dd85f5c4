package nodes

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// cluster remembers who registered and who reported.
type cluster struct {
	darktowerv1.UnimplementedMediaHandlerRegistryServiceServer
	darktowerv1.UnimplementedGlobalControllerServiceServer

	mu          sync.Mutex
	handlers    map[string]int    // reports by id; 0: only registered
	controllers map[string]string // endpoints by id
	beats       map[string]int
	hosted      []*darktowerv1.HostedMeeting // of the last comprehensive heartbeat
	release     []*darktowerv1.HostedMeeting // for the next
}

func (c *cluster) RegisterMH(_ context.Context, req *darktowerv1.RegisterMHRequest) (*darktowerv1.RegisterMHResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handlers[req.HandlerId] = 0
	return &darktowerv1.RegisterMHResponse{Accepted: true}, nil
}

func (c *cluster) SendLoadReport(_ context.Context, req *darktowerv1.SendLoadReportRequest) (*darktowerv1.SendLoadReportResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.handlers[req.HandlerId]; !ok {
		return nil, status.Error(codes.NotFound, "not registered")
	}
	c.handlers[req.HandlerId]++
	return &darktowerv1.SendLoadReportResponse{Acknowledged: true}, nil
}

func (c *cluster) RegisterMC(_ context.Context, req *darktowerv1.RegisterMCRequest) (*darktowerv1.RegisterMCResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.controllers[req.Id] = req.GrpcEndpoint
	return &darktowerv1.RegisterMCResponse{Accepted: true}, nil
}

func (c *cluster) FastHeartbeat(_ context.Context, req *darktowerv1.FastHeartbeatRequest) (*darktowerv1.FastHeartbeatResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats[req.ControllerId]++
	return &darktowerv1.FastHeartbeatResponse{Acknowledged: true}, nil
}

func (c *cluster) ComprehensiveHeartbeat(_ context.Context, req *darktowerv1.ComprehensiveHeartbeatRequest) (*darktowerv1.ComprehensiveHeartbeatResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosted = req.Hosted
	return &darktowerv1.ComprehensiveHeartbeatResponse{Acknowledged: true, Release: c.release}, nil
}

func startCluster(t *testing.T) (*cluster, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{handlers: make(map[string]int), controllers: make(map[string]string), beats: make(map[string]int)}
	server := grpc.NewServer()
	darktowerv1.RegisterMediaHandlerRegistryServiceServer(server, c)
	darktowerv1.RegisterGlobalControllerServiceServer(server, c)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return c, l.Addr().String()
}

func TestEverybodyRegistersAndReportsOnce(t *testing.T) {
	c, addr := startCluster(t)
	f, err := Start(t.Context(), addr, Size{Regions: 3, MediaHandlers: 200, Controllers: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.handlers) != 200 || len(c.controllers) != 7 {
		t.Errorf("%d media handlers and %d controllers are registered, want 200 and 7", len(c.handlers), len(c.controllers))
	}
	for id, reports := range c.handlers {
		if reports != 1 {
			t.Errorf("%s reported %d times", id, reports)
		}
	}
	for id := range c.controllers {
		if c.beats[id] == 0 {
			t.Errorf("%s sent no heartbeat and cannot be chosen", id)
		}
	}
}

// A controller takes no lower token, drops what it is told to, and lists the rest as its own.
func TestControllersKeepTheirRules(t *testing.T) {
	c, addr := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f, err := Start(ctx, addr, Size{Regions: 1, MediaHandlers: 1, Controllers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked := f.controllers.all[1]
	conn, err := grpc.NewClient(asked.endpoint[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mc := darktowerv1.NewMeetingControllerServiceClient(conn)
	assign := func(id string, token uint64) bool {
		t.Helper()
		resp, err := mc.AssignMeetingWithMh(ctx, &darktowerv1.AssignMeetingWithMhRequest{MeetingId: id, Region: "r", FencingToken: token})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Accepted
	}
	for _, step := range []struct {
		id    string
		token uint64
		want  bool
	}{{"m", 5, true}, {"m", 5, true}, {"m", 4, false}, {"m", 6, true}, {"n", 1, true}, {"o", 1, true}} {
		if got := assign(step.id, step.token); got != step.want {
			t.Errorf("%s with token %d: accepted %v, want %v", step.id, step.token, got, step.want)
		}
	}
	for token, want := range map[uint64]bool{0: false, 1: true} {
		resp, err := mc.ReleaseMeeting(ctx, &darktowerv1.ReleaseMeetingRequest{MeetingId: "n", Region: "r", FencingToken: token})
		if err != nil || resp.Released != want {
			t.Errorf("release with token %d: %v (%v), want %v", token, resp.GetReleased(), err, want)
		}
	}
	c.mu.Lock()
	c.release = []*darktowerv1.HostedMeeting{{MeetingId: "o", Region: "r", FencingToken: 1}, {MeetingId: "m", Region: "r", FencingToken: 5}}
	c.mu.Unlock()
	if err := f.comprehensive(ctx, asked); err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	listed := len(c.hosted)
	c.mu.Unlock()
	if listed != 2 || asked.meetings() != 1 || f.controllers.all[0].meetings() != 0 {
		t.Errorf("it listed %d and has %d, its neighbour %d; want 2, 1 and 0", listed, asked.meetings(), f.controllers.all[0].meetings())
	}
	if got := fmt.Sprint(asked.hosted()); f.Hosted() != 1 || asked.tokens[meeting{"m", "r"}] != 6 {
		t.Errorf("it hosts %s, want m with token 6", got)
	}
}

func TestNodesAreSpreadEvenly(t *testing.T) {
	size := Size{Regions: 10, MediaHandlers: 10_000, Controllers: 1000}
	regions, zones := make(map[string]int), make(map[string]int)
	for i := range size.MediaHandlers {
		n := size.MediaHandler(i)
		regions[n.Region]++
		if n.Region == size.Region(0) {
			zones[n.Zone]++
		}
	}
	if len(regions) != 10 || regions[size.Region(3)] != 1000 || len(zones) != 3 {
		t.Errorf("regions have %v, the zones of one %v", regions, zones)
	}
}
