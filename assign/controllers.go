package assign

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// Controllers calls meeting controllers, over one connection to each endpoint that is kept while the
// controller is there.
type Controllers struct {
	token   *TokenFile
	timeout time.Duration
	metrics *Metrics

	mu    sync.Mutex
	conns map[string]map[string]*grpc.ClientConn // by id and endpoint
}

// answerWindow is the least that gRPC takes, and HTTP/2's own.
const answerWindow = 64 << 10

// NewControllers returns a pool without connections. The timeout bounds one call.
func NewControllers(token *TokenFile, timeout time.Duration, metrics *Metrics) *Controllers {
	return &Controllers{token: token, timeout: timeout, metrics: metrics, conns: make(map[string]map[string]*grpc.ClientConn)}
}

// NodeChanged drops the connection to a controller that is gone or has moved, and lets one that
// has just restarted be called without waiting out the failures before. It implements
// fsm.Observer.
func (c *Controllers) NodeChanged(n *fsm.Node) {
	if n.Kind != fsm.MeetingController {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for endpoint, conn := range c.conns[n.ID] {
		switch {
		case endpoint != n.GRPCEndpoint || n.Health == fsm.Unhealthy:
			c.drop(n.ID, endpoint)
		case n.Health == fsm.Pending:
			go conn.ResetConnectBackoff() // not here: the state machine must not wait for it
		}
	}
}

// Reset implements fsm.Observer.
func (c *Controllers) Reset(*fsm.State) { c.Close() }

// Close closes all connections.
func (c *Controllers) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, conns := range c.conns {
		for endpoint := range conns {
			c.drop(id, endpoint)
		}
	}
}

func (c *Controllers) drop(id, endpoint string) {
	go c.conns[id][endpoint].Close() // closing waits for callbacks; the state machine must not
	if delete(c.conns[id], endpoint); len(c.conns[id]) == 0 {
		delete(c.conns, id)
	}
}

// conn returns the connection to a controller at an endpoint. One that has moved may have another: it is
// told at the old one what to drop, and must not lose there what it is asked at the new one.
func (c *Controllers) conn(id, endpoint string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn := c.conns[id][endpoint]; conn != nil {
		return conn, nil
	}
	target, creds, err := dialTarget(endpoint)
	if err != nil {
		return nil, err
	}
	cc, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(creds),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		// Fixed windows, without the ping for every answer by which gRPC sizes them else: answers
		// are small, and to most controllers there is one call at a time.
		grpc.WithStaticStreamWindowSize(answerWindow),
		grpc.WithStaticConnWindowSize(answerWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 5 * time.Second}),
		// A controller that comes back must not be refused for long by our own waiting.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: c.timeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("meeting controller %s at %s: %w", id, endpoint, err)
	}
	if c.conns[id] == nil {
		c.conns[id] = make(map[string]*grpc.ClientConn)
	}
	c.conns[id][endpoint] = cc
	return cc, nil
}

// dialTarget reads an endpoint: http and grpc are plain text, https is TLS with the host
// verified against the system's roots.
func dialTarget(endpoint string) (string, credentials.TransportCredentials, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", nil, fmt.Errorf("endpoint of a meeting controller: %w", err)
	}
	port := u.Port()
	var creds credentials.TransportCredentials
	switch u.Scheme {
	case "https":
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()})
		port = cmp.Or(port, "443")
	case "http", "grpc":
		creds = insecure.NewCredentials()
		port = cmp.Or(port, "80")
	default:
		return "", nil, fmt.Errorf("endpoint of a meeting controller: scheme %q is not http, https or grpc", u.Scheme)
	}
	return "dns:///" + net.JoinHostPort(u.Hostname(), port), creds, nil
}

// Services that a meeting controller serves, by its dialect.
func controllerMethod(d fsm.Dialect, method string) string {
	if d == fsm.DialectV0 {
		return "/dark_tower.internal.MeetingControllerService/" + method
	}
	return "/" + darktowerv1.MeetingControllerService_ServiceDesc.ServiceName + "/" + method
}

// callee is a controller as it was when a meeting was given to it.
type callee struct {
	id       string
	endpoint string
	dialect  fsm.Dialect
}

func (c *Controllers) invoke(ctx context.Context, to callee, method string, req, resp any) error {
	conn, err := c.conn(to.id, to.endpoint)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if header := c.token.header(); header != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", header)
	}
	if err := conn.Invoke(ctx, controllerMethod(to.dialect, method), req, resp); err != nil {
		return fmt.Errorf("meeting controller %s: %s: %w", to.id, method, err)
	}
	return nil
}

// assign asks a controller to take a meeting. A nil error means that it answered.
func (c *Controllers) assign(ctx context.Context, to callee, req *darktowerv1.AssignMeetingWithMhRequest) (*darktowerv1.AssignMeetingWithMhResponse, error) {
	start := time.Now()
	resp := new(darktowerv1.AssignMeetingWithMhResponse)
	err := c.invoke(ctx, to, "AssignMeetingWithMh", req, resp)
	c.metrics.controllerCall(callOutcome(resp, err), time.Since(start))
	return resp, err
}

// release takes a meeting back from a controller. errors.Is(err, errReleaseUnsupported) when
// the controller is too old to know how.
func (c *Controllers) release(ctx context.Context, to callee, req *darktowerv1.ReleaseMeetingRequest) error {
	err := c.invoke(ctx, to, "ReleaseMeeting", req, new(darktowerv1.ReleaseMeetingResponse))
	if status.Code(err) == codes.Unimplemented {
		return errReleaseUnsupported
	}
	return err
}

var errReleaseUnsupported = errors.New("the meeting controller does not know ReleaseMeeting")

func callOutcome(resp *darktowerv1.AssignMeetingWithMhResponse, err error) string {
	switch {
	case err == nil && resp.Accepted:
		return "accepted"
	case err == nil:
		return "rejected"
	case status.Code(err) == codes.DeadlineExceeded:
		return "timeout"
	case status.Code(err) == codes.Unavailable:
		return "unavailable"
	default:
		return "error"
	}
}
