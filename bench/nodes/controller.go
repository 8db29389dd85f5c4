package nodes

import (
	"context"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// controller is one meeting controller: what it hosts. It is safe for concurrent use.
type controller struct {
	Node
	endpoint string

	mu     sync.Mutex
	tokens map[meeting]uint64 // of what it hosts
}

type meeting struct{ id, region string }

// take keeps the rule of fencing: only a token that is not below the one it holds.
func (c *controller) take(m meeting, token uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if token < c.tokens[m] {
		return false
	}
	c.tokens[m] = token
	return true
}

// drop drops a meeting that it holds with this token or a lower one.
func (c *controller) drop(m meeting, token uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	held, ok := c.tokens[m]
	if !ok || held > token {
		return false
	}
	delete(c.tokens, m)
	return true
}

func (c *controller) meetings() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tokens)
}

// hosted lists what it hosts.
func (c *controller) hosted() []*darktowerv1.HostedMeeting {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*darktowerv1.HostedMeeting, 0, len(c.tokens))
	for m, token := range c.tokens {
		list = append(list, &darktowerv1.HostedMeeting{MeetingId: m.id, Region: m.region, FencingToken: token})
	}
	return list
}

// controllers serve all meeting controllers: one gRPC server with a socket for each, as what the
// cluster asks does not say which controller it asks.
type controllers struct {
	darktowerv1.UnimplementedMeetingControllerServiceServer
	all    []*controller
	byAddr map[string]*controller // of the socket
	server *grpc.Server
	served sync.WaitGroup
}

// window is the least that gRPC takes, and HTTP/2's own.
const window = 64 << 10

func serveControllers(size Size) (*controllers, error) {
	s := &controllers{byAddr: make(map[string]*controller), server: grpc.NewServer(
		// As the controllers that exist, which are not written in Go: they do not ping for every
		// message that comes in to size their windows.
		grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window),
	)}
	darktowerv1.RegisterMeetingControllerServiceServer(s.server, s)
	var listeners []net.Listener
	for i := range size.Controllers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			for _, l := range listeners {
				_ = l.Close() // nobody knows of it yet
			}
			return nil, fmt.Errorf("listen for meeting controller %d of %d: %w", i+1, size.Controllers, err)
		}
		listeners = append(listeners, l)
		c := &controller{Node: size.Controller(i), endpoint: "http://" + l.Addr().String(), tokens: make(map[meeting]uint64)}
		s.all, s.byAddr[l.Addr().String()] = append(s.all, c), c
	}
	for _, l := range listeners {
		s.served.Go(func() { _ = s.server.Serve(l) }) // it ends with stop; joins fail before that
	}
	return s, nil
}

func (s *controllers) stop() {
	s.server.Stop()
	s.served.Wait()
}

// asked is the controller whose socket a call came in through.
func (s *controllers) asked(ctx context.Context) (*controller, error) {
	if from, ok := peer.FromContext(ctx); ok && from.LocalAddr != nil {
		if c := s.byAddr[from.LocalAddr.String()]; c != nil {
			return c, nil
		}
	}
	return nil, status.Error(codes.Internal, "no controller is known at this address")
}

// AssignMeetingWithMh takes a meeting.
func (s *controllers) AssignMeetingWithMh(ctx context.Context, req *darktowerv1.AssignMeetingWithMhRequest) (*darktowerv1.AssignMeetingWithMhResponse, error) {
	c, err := s.asked(ctx)
	if err != nil {
		return nil, err
	}
	accepted := c.take(meeting{req.MeetingId, req.Region}, req.FencingToken)
	return &darktowerv1.AssignMeetingWithMhResponse{Accepted: accepted}, nil
}

// ReleaseMeeting gives a meeting up.
func (s *controllers) ReleaseMeeting(ctx context.Context, req *darktowerv1.ReleaseMeetingRequest) (*darktowerv1.ReleaseMeetingResponse, error) {
	c, err := s.asked(ctx)
	if err != nil {
		return nil, err
	}
	released := c.drop(meeting{req.MeetingId, req.Region}, req.FencingToken)
	return &darktowerv1.ReleaseMeetingResponse{Released: released}, nil
}
