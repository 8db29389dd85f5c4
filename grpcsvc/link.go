package grpcsvc

import (
	"context"
	"sync"
	"time"

	statusv1 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// link takes requests to a leader over one stream, many at a time: a call for each would cost both sides
// several times as much. A link that breaks is not mended, another takes its place. Its methods may be
// called from several goroutines.
type link struct {
	stream replicav1.ReplicaService_ForwardClient
	opened chan struct{} // closed when there is a stream
	broken chan struct{} // closed when there is none, or none any more

	sending chan struct{} // holds who sends: a stream takes one message at a time

	mu      sync.Mutex
	number  uint64
	waiting map[uint64]chan<- *replicav1.ForwardResponse
}

// openLink opens a link in the background, which lasts as long as the context at most.
func openLink(ctx context.Context, conn *grpc.ClientConn) *link {
	l := &link{
		opened:  make(chan struct{}),
		sending: make(chan struct{}, 1),
		broken:  make(chan struct{}),
		waiting: make(map[uint64]chan<- *replicav1.ForwardResponse),
	}
	go l.receive(ctx, replicav1.NewReplicaServiceClient(conn))
	return l
}

func (l *link) isBroken() bool {
	select {
	case <-l.broken:
		return true
	default:
		return false
	}
}

func (l *link) receive(ctx context.Context, client replicav1.ReplicaServiceClient) {
	defer close(l.broken)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if l.stream, err = client.Forward(ctx); err != nil {
		return
	}
	close(l.opened)
	for {
		resp, err := l.stream.Recv()
		if err != nil {
			return
		}
		l.mu.Lock()
		if answer := l.waiting[resp.Number]; answer != nil {
			answer <- resp
			delete(l.waiting, resp.Number) // a second answer would find no room
		}
		l.mu.Unlock()
	}
}

// ask sends one request and waits for its answer. Errors: raftnode.ErrNotLeader when it was not sent,
// errNoLeaderYet when no answer came, the context's, or the status that the leader answered.
func (l *link) ask(ctx context.Context, req *replicav1.ForwardRequest) (*replicav1.ForwardResponse, error) {
	select {
	case <-l.opened:
	case <-l.broken:
		return nil, raftnode.ErrNotLeader
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer := make(chan *replicav1.ForwardResponse, 1)
	req.Number = l.expect(answer)
	defer l.forget(req.Number)
	if err := l.send(ctx, req); err != nil {
		return nil, err
	}
	select {
	case resp := <-answer:
		return resp, decodeStatus(resp.Error)
	case <-l.broken:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case resp := <-answer: // the last before it broke
		return resp, decodeStatus(resp.Error)
	default:
		return nil, errNoLeaderYet
	}
}

func (l *link) expect(answer chan<- *replicav1.ForwardResponse) (number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	l.waiting[l.number] = answer
	return l.number
}

func (l *link) forget(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, number)
}

// send waits for its turn, which is long when the leader takes nothing from the stream.
func (l *link) send(ctx context.Context, req *replicav1.ForwardRequest) error {
	select {
	case l.sending <- struct{}{}:
	case <-l.broken:
		return raftnode.ErrNotLeader
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-l.sending }()
	if l.isBroken() {
		return raftnode.ErrNotLeader
	}
	if deadline, ok := ctx.Deadline(); ok {
		req.TimeoutUs = uint64(max(1, time.Until(deadline).Microseconds()))
	}
	if l.stream.Send(req) != nil {
		return errNoLeaderYet
	}
	return nil
}

// encodeStatus makes bytes of an error that is a status.
func encodeStatus(err error) []byte {
	data, encodeErr := proto.Marshal(status.Convert(err).Proto())
	if encodeErr != nil || len(data) == 0 {
		return encodeStatus(status.Error(codes.Internal, "an error that cannot be told"))
	}
	return data
}

// decodeStatus makes an error of them again; nil of none.
func decodeStatus(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	st := new(statusv1.Status)
	if err := proto.Unmarshal(data, st); err != nil {
		return status.Errorf(codes.Internal, "the leader's status cannot be read: %v", err)
	}
	if st.Code == int32(codes.OK) {
		return status.Error(codes.Internal, "the leader's error has no code")
	}
	return status.ErrorProto(st)
}
