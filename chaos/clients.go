package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	"github.com/conclave-rtc/conclave/sim"
)

const (
	// clientTimeout is how long a client waits for one answer. It never tries again: what came of
	// a call must be known, or known to be unknown.
	clientTimeout = 2 * time.Second
	// activeMeetings is how many meetings are joined and ended at a time, of each region.
	activeMeetings = 24
	// callsPerMeeting is how many calls a meeting gets before another takes its place: the time to
	// check a history grows with the calls of one meeting whose answers were lost.
	callsPerMeeting = 200
)

// clients call the replicas, each client one of them, one call at a time.
type clients struct {
	system   *System
	history  *history
	round    int
	interval time.Duration // between two calls of one client
	meetings *meetings
	late     atomic.Int64   // the number of late readers
	pending  sync.WaitGroup // what late readers wait for
}

func (c *clients) run(ctx context.Context, perReplica int, seed uint64) {
	var all sync.WaitGroup
	for i, replica := range c.system.cluster.Replicas() {
		for j := range perReplica {
			client := &client{
				clients: c, name: fmt.Sprintf("client-%d.%d", i+1, j+1), replica: replica.ID,
				conn:   c.system.clientConns[i],
				random: rand.New(rand.NewPCG(seed, uint64(i*1000+j))),
			}
			all.Go(func() { client.run(ctx) })
		}
	}
	all.Wait()
	c.pending.Wait()
}

// lateReaders are so many reads at once.
const lateReaders = 24

// readAt reads meetings, linearizably, through one replica: each by a client of its own, since those
// that were there before may be waiting for an answer. It does not wait for the answers.
func (c *clients) readAt(replica string, random *rand.Rand) {
	for i, r := range c.system.cluster.Replicas() {
		if r.ID != replica {
			continue
		}
		for range lateReaders {
			m := c.meetings.draw(random)
			reader := &client{clients: c, name: fmt.Sprintf("late-%d", c.late.Add(1)), replica: replica, conn: c.system.clientConns[i]}
			call := &Call{Client: reader.name, Replica: replica, Meeting: m.name, Region: m.region, Kind: KindGet}
			c.pending.Go(func() { reader.make(context.Background(), call) })
		}
	}
}

type client struct {
	*clients
	name    string
	replica string
	conn    *grpc.ClientConn
	random  *rand.Rand
	seen    uint64 // the greatest index that an answer reflected
}

func (c *client) run(ctx context.Context) {
	for next := time.Now(); ctx.Err() == nil; {
		// What an outage held up is not caught up with.
		if next = next.Add(c.interval/2 + rand.N(c.interval)); time.Until(next) < 0 {
			next = time.Now()
		}
		select {
		case <-time.After(time.Until(next)):
		case <-ctx.Done():
			return
		}
		if c.step(ctx) == Unknown {
			// Calls to a replica that is down would only make histories that say nothing.
			_ = pause(ctx, 150*time.Millisecond) // the loop looks at ctx
		}
	}
}

// step makes one call about one of the active meetings.
func (c *client) step(ctx context.Context) Outcome {
	m := c.meetings.draw(c.random)
	call := &Call{Client: c.name, Replica: c.replica, Meeting: m.name, Region: m.region}
	switch draw := c.random.IntN(100); {
	case draw < 40:
		call.Kind = KindJoin
	case draw < 68:
		call.Kind = KindGet
		if draw < 44 {
			call.Min = c.seen
		}
	case draw < 82:
		call.Kind = KindGetStale
		if draw < 72 {
			call.Min = c.seen
		}
	default:
		call.Kind, call.Token = KindEnd, m.someToken(c.random)
	}
	c.make(ctx, call)
	if call.Found != nil {
		m.saw(call.Found.Token)
	}
	return call.Outcome
}

// make makes a call and records it.
func (c *client) make(ctx context.Context, call *Call) {
	// A call that is under way when the round ends is answered all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clientTimeout)
	defer cancel()
	var header metadata.MD
	api := conclavev1.NewAssignmentServiceClient(c.conn)
	call.Life = c.system.life(c.replica)
	call.Sent = c.history.now()
	var err error
	var found *conclavev1.Assignment
	switch call.Kind {
	case KindJoin:
		var resp *conclavev1.AssignMeetingResponse
		resp, err = api.AssignMeeting(ctx, &conclavev1.AssignMeetingRequest{MeetingId: call.Meeting, Region: call.Region}, grpc.Header(&header))
		found, call.Created = resp.GetAssignment(), resp.GetCreated()
	case KindEnd:
		_, err = api.EndMeeting(ctx, &conclavev1.EndMeetingRequest{MeetingId: call.Meeting, Region: call.Region, FencingToken: call.Token, Reason: "chaos"}, grpc.Header(&header))
	case KindGet, KindGetStale:
		req := &conclavev1.GetAssignmentRequest{MeetingId: call.Meeting, Region: call.Region, MinIndex: call.Min}
		if call.Kind == KindGetStale {
			req.Consistency = conclavev1.Consistency_STALE
		}
		var resp *conclavev1.GetAssignmentResponse
		resp, err = api.GetAssignment(ctx, req, grpc.Header(&header))
		found = resp.GetAssignment()
	}
	call.Back = c.history.now()
	if values := header.Get("conclave-index"); len(values) > 0 {
		call.Index, _ = strconv.ParseUint(values[0], 10, 64) // 0 when it is not a number: a finding
	}
	call.Outcome, call.Reason = outcomeOf(err)
	if err == nil && found != nil {
		call.Found = placementOf(found)
	}
	c.seen = max(c.seen, call.Index)
	c.history.add(call)
}

func placementOf(a *conclavev1.Assignment) *Placement {
	p := &Placement{Token: a.FencingToken, MC: a.McId}
	for _, mh := range a.MhAssignments {
		p.MHs = append(p.MHs, mh.MhId)
	}
	return p
}

// withoutEffect are the reasons that say that a call did nothing and never will.
var withoutEffect = []string{
	"INVALID_FIELD", "NOT_REGISTERED", "NO_ASSIGNMENT", "FENCED", "NO_MEETING_CONTROLLERS", "NO_MEDIA_HANDLERS",
	"CONTROLLERS_AT_CAPACITY", "CONTROLLERS_DRAINING", "CONTROLLERS_UNHEALTHY", "CONTROLLERS_UNREACHABLE",
}

func outcomeOf(err error) (Outcome, string) {
	if err == nil {
		return Done, ""
	}
	reason := sim.Reason(err)
	if slices.Contains(withoutEffect, reason) {
		return Refused, reason
	}
	if status.Code(err) == codes.InvalidArgument || status.Code(err) == codes.Unimplemented {
		return Refused, reason
	}
	return Unknown, reason
}

// meetings are those that are joined and ended now. It is safe for concurrent use.
type meetings struct {
	prefix string
	mu     sync.Mutex
	active []*meeting
	made   int
}

type meeting struct {
	name   string
	region string

	mu     sync.Mutex
	calls  int
	tokens []uint64 // the latest that were seen, the greatest last
}

func newMeetings(round int) *meetings {
	m := &meetings{prefix: fmt.Sprintf("r%d", round)}
	for range activeMeetings {
		for _, region := range regions {
			m.active = append(m.active, m.fresh(region))
		}
	}
	return m
}

func (m *meetings) fresh(region string) *meeting {
	m.made++
	return &meeting{name: fmt.Sprintf("%s-m%d", m.prefix, m.made), region: region}
}

func (m *meetings) draw(random *rand.Rand) *meeting {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := random.IntN(len(m.active))
	drawn := m.active[i]
	if drawn.calls++; drawn.calls >= callsPerMeeting {
		m.active[i] = m.fresh(drawn.region)
	}
	return drawn
}

func (m *meeting) saw(token uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.tokens) > 0 && token <= m.tokens[len(m.tokens)-1] {
		return
	}
	if m.tokens = append(m.tokens, token); len(m.tokens) > 3 {
		m.tokens = m.tokens[1:]
	}
}

// someToken is mostly the newest one, now and then an old one, which must be refused, or none.
func (m *meeting) someToken(random *rand.Rand) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	draw := random.IntN(10)
	switch {
	case len(m.tokens) == 0 || draw < 2:
		return 0
	case draw < 5:
		return m.tokens[random.IntN(len(m.tokens))]
	}
	return m.tokens[len(m.tokens)-1]
}
