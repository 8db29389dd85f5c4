package grpcsvc

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// scriptedLeader answers what the test tells it to.
type scriptedLeader struct {
	replicav1.UnimplementedReplicaServiceServer
	asked  chan *replicav1.ForwardRequest
	answer chan *replicav1.ForwardResponse // closed: the stream ends
}

func (l *scriptedLeader) Forward(stream replicav1.ReplicaService_ForwardServer) error {
	go func() {
		for {
			req, err := stream.Recv()
			if err != nil {
				return
			}
			l.asked <- req
		}
	}()
	for resp := range l.answer {
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
	return status.Error(codes.Unavailable, "gone")
}

func (l *scriptedLeader) readIndex(number, index uint64) {
	l.answer <- &replicav1.ForwardResponse{Number: number, Response: &replicav1.ForwardResponse_ReadIndex{
		ReadIndex: &replicav1.ReadIndexResponse{Index: index},
	}}
}

func linkToScriptedLeader(t *testing.T) (*scriptedLeader, *link) {
	leader := &scriptedLeader{asked: make(chan *replicav1.ForwardRequest, 100), answer: make(chan *replicav1.ForwardResponse)}
	server := grpc.NewServer()
	replicav1.RegisterReplicaServiceServer(server, leader)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///"+listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return leader, openLink(t.Context(), conn)
}

func askForReadIndex() *replicav1.ForwardRequest {
	return &replicav1.ForwardRequest{Request: &replicav1.ForwardRequest_ReadIndex{ReadIndex: new(replicav1.ReadIndexRequest)}}
}

// Answers come in any order, and each to who asked.
func TestLinkBringsEachItsAnswer(t *testing.T) {
	leader, l := linkToScriptedLeader(t)
	const many = 50
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			req := askForReadIndex()
			resp, err := l.ask(t.Context(), req)
			if err != nil || resp.GetReadIndex().GetIndex() != 1000+req.Number {
				t.Errorf("request %d: %v, %v", req.Number, resp, err)
			}
		})
	}
	var numbers []uint64
	for range many {
		numbers = append(numbers, (<-leader.asked).Number)
	}
	leader.readIndex(7777, 1) // nobody asked
	for i := range numbers {
		number := numbers[len(numbers)-1-i]
		leader.readIndex(number, 1000+number)
		leader.readIndex(number, 1) // a second answer
	}
	all.Wait()
	if len(l.waiting) != 0 {
		t.Errorf("%d are still waited for", len(l.waiting))
	}
}

// Who gives up is not waited for, and what comes then is for nobody.
func TestLinkEndsWithItsCaller(t *testing.T) {
	leader, l := linkToScriptedLeader(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	result := make(chan error)
	go func() {
		_, err := l.ask(ctx, askForReadIndex())
		result <- err
	}()
	late := <-leader.asked
	if timeout := time.Duration(late.TimeoutUs) * time.Microsecond; timeout > time.Hour || timeout < 59*time.Minute {
		t.Errorf("the leader is told %v of an hour", timeout)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	leader.readIndex(late.Number, 1)
	go func() { leader.readIndex((<-leader.asked).Number, 2) }()
	if resp, err := l.ask(t.Context(), askForReadIndex()); err != nil || resp.GetReadIndex().Index != 2 {
		t.Errorf("the next: %v, %v", resp, err)
	}
}

// A request that was sent may have been heard; one after the link broke was not.
func TestLinkBreaks(t *testing.T) {
	leader, l := linkToScriptedLeader(t)
	result := make(chan error)
	go func() {
		_, err := l.ask(t.Context(), askForReadIndex())
		result <- err
	}()
	<-leader.asked
	close(leader.answer)
	if err := <-result; !errors.Is(err, errNoLeaderYet) {
		t.Errorf("under way: %v", err)
	}
	<-l.broken
	if _, err := l.ask(t.Context(), askForReadIndex()); !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("afterwards: %v", err)
	}
}

// A status comes across with its details, and nothing else is taken for success.
func TestStatusAcrossALink(t *testing.T) {
	for _, err := range []error{fenced("m", "eu", 7), noMediaHandlers("eu"), errOverloaded, errors.New("plain")} {
		got := decodeStatus(encodeStatus(err))
		if want := status.Convert(err); !proto.Equal(status.Convert(got).Proto(), want.Proto()) {
			t.Errorf("%v came across as %v", err, got)
		}
	}
	if err := decodeStatus(nil); err != nil {
		t.Errorf("no error came across as %v", err)
	}
	for _, rubbish := range [][]byte{{0xff}, {0x12, 1, 'x'}, encodeStatus(nil)} {
		if status.Code(decodeStatus(rubbish)) != codes.Internal {
			t.Errorf("%x came across as %v", rubbish, decodeStatus(rubbish))
		}
	}
}
