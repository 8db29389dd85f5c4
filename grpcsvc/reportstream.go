package grpcsvc

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

const (
	// streamWindow is how many reports of one stream may be undecided. No more are received
	// meanwhile, and HTTP/2 flow control holds the client back.
	streamWindow = 4096
	// maxUndecided is the same for all streams together: half of what submitLimits and the
	// leader's lane let wait, so that single calls find room beside them.
	maxUndecided = 8192
)

type reportLoadStream = grpc.BidiStreamingServer[conclavev1.ReportLoadRequest, conclavev1.ReportLoadResponse]

// ReportLoad takes load reports of many media handlers, acknowledged by their numbers.
func (r registry) ReportLoad(stream reportLoadStream) error {
	s := &reportStream{
		Server:  r.Server,
		stream:  stream,
		arrived: make(chan struct{}, 1),
		left:    make(chan struct{}, 1),
	}
	// It fails only for a context that is not a call's.
	_ = stream.SetHeader(metadata.Pairs(headerNode, r.node.ID()))
	defer s.close()
	go s.receive()
	if err := s.serve(); err != nil {
		return statusOf(stream.Context(), err)
	}
	return nil
}

// reportStream is one stream of load reports. One goroutine receives; another commits one group
// after the other, so that whatever arrives during a commit shares the next, and answers.
type reportStream struct {
	*Server
	stream   reportLoadStream
	session  uint64 // of the receiver
	sequence uint64 // of the receiver: the last number received

	arrived chan struct{} // there is more in waiting, or ended
	left    chan struct{} // there is more room

	mu        sync.Mutex
	waiting   []streamedReport
	undecided int   // waiting or being committed
	ended     error // why no more is received; io.EOF when the client has said all
	closed    bool
}

// receive takes messages until the stream ends.
func (s *reportStream) receive() {
	defer func() {
		if p := recover(); p != nil {
			s.end(s.recovered(s.stream.Context(), p))
		}
	}()
	for {
		req, err := s.stream.Recv()
		if err != nil {
			s.end(err)
			return
		}
		reports, bad := s.decode(req)
		if bad != nil {
			s.end(invalidField(bad))
			return
		}
		if err := s.put(reports); err != nil {
			s.end(err)
			return
		}
	}
}

// put waits for room: in the stream's window, then in the room of all.
func (s *reportStream) put(reports []streamedReport) error {
	ctx := s.stream.Context()
	for !s.fits(len(reports)) {
		select {
		case <-s.left:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := s.admitReports(ctx, len(reports)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.Server.undecided.Release(int64(len(reports)))
		return context.Canceled
	}
	s.waiting = append(s.waiting, reports...)
	s.undecided += len(reports)
	signal(s.arrived)
	return nil
}

func (s *reportStream) fits(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.undecided+n <= streamWindow
}

// admitReports waits for the room of all streams, as long as a call looks for a leader.
func (s *reportStream) admitReports(ctx context.Context, n int) error {
	if s.Server.undecided.TryAcquire(int64(n)) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, s.config.ForwardTimeout)
	defer cancel()
	if err := s.Server.undecided.Acquire(waiting, int64(n)); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errOverloaded
	}
	return nil
}

// end notes why no more is received. What was received before is still committed.
func (s *reportStream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	signal(s.arrived)
}

// close gives the room of what was not decided back.
func (s *reportStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.Server.undecided.Release(int64(s.undecided))
}

// serve commits and answers what has been received, until the stream ends.
func (s *reportStream) serve() error {
	for {
		group, err := s.take()
		if err != nil {
			return err
		}
		if len(group) == 0 {
			return nil
		}
		resp, err := s.commit(group)
		if err != nil {
			return err
		}
		s.decided(len(group))
		if err := s.send(resp); err != nil {
			return err
		}
	}
}

// send gives up a client that reads no answers, for as long as a call looks for a leader: the room that
// its reports hold is all streams'.
func (s *reportStream) send(resp *conclavev1.ReportLoadResponse) error {
	sent := make(chan error, 1)
	go func() { sent <- s.stream.Send(resp) }()
	select {
	case err := <-sent:
		return err
	case <-time.After(s.config.ForwardTimeout):
		return errOverloaded
	}
}

// take waits for reports and returns a group of them; none when the client has said all.
func (s *reportStream) take() ([]streamedReport, error) {
	for {
		select {
		case <-s.stopping: // however much waits: it is not acknowledged
			return nil, errStopping()
		default:
		}
		group, err := s.next()
		switch {
		case len(group) > 0:
			return group, nil
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, err
		}
		select {
		case <-s.arrived:
		case <-s.stopping:
			return nil, errStopping()
		case <-s.stream.Context().Done():
			return nil, s.stream.Context().Err()
		}
	}
}

// next returns the oldest of what waits, and why no more comes.
func (s *reportStream) next() ([]streamedReport, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.waiting), submitLimits.Batch)
	group := s.waiting[:n:n]
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
	return group, s.ended
}

// decided makes room in the window.
func (s *reportStream) decided(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.undecided -= n
	s.Server.undecided.Release(int64(n))
	signal(s.left)
}

// signal wakes who waits, or will wait next.
func signal(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// errStopping has the client go on at another replica.
func errStopping() error {
	return retryable(codes.Unavailable, ReasonNoLeader, "this replica is stopping", nil, retryQueue)
}
