package replica

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// Leaders crash while clients report: each client goes on at another replica, every report is
// acknowledged, and what stands is the last that each handler said.
func TestStreamsOverFailover(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	const clients, perClient = 3, 40
	var streams []*sim.ReportStream
	var ids [][]string
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for i := range clients { // one begins at each replica
		ids = append(ids, c.streamFleet(t, fmt.Sprintf("failover-%d", i), perClient))
		stream := sim.NewReportStream(c.sim, sim.ReportStreamConfig{
			OnRefused: func(r *conclavev1.LoadReport, why *conclavev1.RefusedReport) { t.Errorf("%v was refused: %v", r, why) },
		})
		streams = append(streams, stream)
		running.Go(func() {
			if err := stream.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer running.Wait()
	defer cancel()

	stop := make(chan struct{})
	last := make([]map[string]uint32, clients)
	var reporting sync.WaitGroup
	for i, stream := range streams {
		last[i] = make(map[string]uint32)
		reporting.Go(func() { reportUntil(t, stop, stream, ids[i], last[i]) })
	}
	for range 2 {
		before := acknowledgedBy(streams)
		eventually(t, "reports are acknowledged", func() error { return moreThan(streams, before, 2000) })
		crashed := c.leader(t)
		crashed.kill()
		before = acknowledgedBy(streams)
		eventually(t, "reports are acknowledged without it", func() error { return moreThan(streams, before, 2000) })
		crashed.restart(t)
		c.waitReady(t)
	}
	close(stop)
	reporting.Wait()
	for i, stream := range streams {
		if err := stream.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		counts := stream.Counts()
		t.Logf("client %d: %+v", i, counts)
		if counts.Acknowledged != counts.Reported {
			t.Errorf("client %d: %+v, want every report acknowledged", i, counts)
		}
		for id, used := range last[i] {
			if got := c.leader(t).handler(t, id).CurrentStreams; got != used {
				t.Errorf("%s has %d streams, its last report said %d", id, got, used)
			}
		}
	}
	c.sameState(t)
}

// reportUntil reports for one handler after the other, each time more, and notes what it said last.
func reportUntil(t *testing.T, stop <-chan struct{}, stream *sim.ReportStream, ids []string, last map[string]uint32) {
	for n := uint32(1); ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		id := ids[int(n)%len(ids)]
		if err := stream.Report(t.Context(), streamed(0, id, n)); err != nil {
			t.Error(err)
			return
		}
		last[id] = n
	}
}

func acknowledgedBy(streams []*sim.ReportStream) (total []uint64) {
	for _, s := range streams {
		total = append(total, s.Counts().Acknowledged)
	}
	return total
}

func moreThan(streams []*sim.ReportStream, before []uint64, n uint64) error {
	for i, s := range streams {
		if more := s.Counts().Acknowledged - before[i]; more <= n {
			return fmt.Errorf("client %d has %d more acknowledged", i, more)
		}
	}
	return nil
}

// Without a quorum nothing is acknowledged, and the stream ends as soon as a call would; with one
// again, the same reports are taken.
func TestStreamWithoutQuorum(t *testing.T) {
	t.Parallel()
	for name, leads := range map[string]bool{"the leader is left": true, "a follower is left": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, withForwardTimeout)
			id := c.streamFleet(t, "quorum", 1)[0]
			left := c.leader(t)
			if !leads {
				left = c.follower(t)
			}
			stream := left.reports(t, 3)
			stream.send(t, streamed(1, id, 1))
			stream.until(t, 1)
			for _, m := range c.members {
				if m != left {
					m.kill()
				}
			}
			stream.send(t, streamed(2, id, 2), streamed(3, id, 3))
			answer, err := stream.Recv()
			if bad := noLeader.check(err); bad != nil {
				t.Errorf("%v; %v", bad, answer)
			}
			for _, m := range c.members {
				if m != left {
					m.restart(t)
				}
			}
			c.waitReady(t)
			again := left.reports(t, 3)
			again.send(t, streamed(2, id, 2), streamed(3, id, 3))
			if refused := again.until(t, 3); len(refused) > 0 {
				t.Errorf("refused: %v", refused)
			}
			if used := left.handler(t, id).CurrentStreams; used != 3 {
				t.Errorf("%d streams, want 3", used)
			}
		})
	}
}

// While nothing can be committed a replica takes a window full of reports and no more: HTTP/2
// holds the client back. Then it takes them all.
func TestStreamHoldsItsClientBack(t *testing.T) {
	t.Parallel()
	const window, all = 4096, 4600
	c := startCluster(t, 3, func(config *Config) { config.ForwardTimeout = time.Minute })
	at, others := c.leader(t), c.followers(t)
	id := c.streamFleet(t, "window", 1)[0]
	for _, m := range others {
		m.kill()
	}
	stream := at.reports(t, 0)
	for sequence := range uint64(all) { // one by one: they fit into what HTTP/2 holds
		stream.send(t, streamed(sequence+1, id, uint32(sequence+1)))
	}
	received := func() error {
		if n := at.messagesReceived(t); n != window+1 { // one waits for room
			return fmt.Errorf("%d messages are received", n)
		}
		return nil
	}
	eventually(t, "the window is full", received)
	for range 20 {
		at.status(t) // on the same connection: what was sent before has arrived before
	}
	if err := received(); err != nil {
		t.Errorf("after the window was full %v", err)
	}
	for _, m := range others {
		m.restart(t)
	}
	if refused := stream.until(t, all); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
	if used := at.handler(t, id).CurrentStreams; used != all {
		t.Errorf("%d streams, want the %d of the last report", used, all)
	}
}

// messagesReceived is how many messages the replica has taken from its streams of reports.
func (m *member) messagesReceived(t *testing.T) int {
	t.Helper()
	return m.counter(t, `grpc_server_msg_received_total{grpc_method="ReportLoad",grpc_service="conclave.v1.RegistryService",grpc_type="bidi_stream"}`)
}
