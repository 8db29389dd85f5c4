package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/localcluster"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// stopPatience is above all that a replica allows itself for an orderly end.
const stopPatience = 15 * time.Second

// terminate wants a replica to end in order.
func terminate(t *testing.T, r *localcluster.Replica) {
	t.Helper()
	began := time.Now()
	if err := r.Terminate(stopPatience); err != nil {
		t.Errorf("%s after SIGTERM: %v\n%s", r.ID, err, tail(r.LogPath, 20))
	}
	t.Logf("%s ended %v after SIGTERM", r.ID, time.Since(began).Round(time.Millisecond))
}

// missedLeader is what a follower logs that has not heard from its leader for too long.
const missedLeader = "heartbeat timeout reached"

// A leader that is told to stop hands over first: whoever joins through the others hardly notices.
func TestLeaderHandsOverOnSIGTERM(t *testing.T) {
	c := startCluster(t, quickNodes...)
	c.startFleet(t, 4, 3)
	leader := c.leader(t)
	probe := startProbe(t, c.except(leader))
	probe.progress(t, 50)
	before := make(map[*localcluster.Replica]int)
	for _, r := range c.except(leader) {
		before[r] = logSize(t, r)
	}
	terminate(t, leader)
	if log := tail(leader.LogPath, 40); strings.Contains(log, "without handing over") {
		t.Errorf("%s did not hand over:\n%s", leader.ID, log)
	}
	next := c.leader(t)
	if log := logSince(t, next, before[next]); strings.Contains(log, missedLeader) {
		t.Errorf("%s was not told to lead, it missed its leader:\n%s", next.ID, log)
	}
	probe.progress(t, 50)
	probe.judge(t)
	c.restart(t, leader)
	c.converge(t)
}

// All replicas are restarted one after another while people join; nothing is lost.
func TestRollingRestart(t *testing.T) {
	c := startCluster(t, quickNodes...)
	work := c.startTraffic(t, c.startFleet(t, 8, 4), "rolling")
	for _, r := range c.Replicas() {
		work.progress(t, 100)
		terminate(t, r)
		work.progress(t, 50)
		c.restart(t, r)
	}
	work.stop()
	work.judge(t)
	c.converge(t)
}

// probe joins one meeting after another, so that the longest silence shows.
type probe struct {
	end     context.CancelFunc
	done    chan struct{}
	joined  chan time.Time
	gap     time.Duration // the longest between two answers
	refused int
	wrong   error // the first error that no retry is for
}

func startProbe(t *testing.T, replicas []*localcluster.Replica) *probe {
	t.Helper()
	var addresses []string
	for _, r := range replicas {
		addresses = append(addresses, r.GRPCAddr)
	}
	through := dial(t, strings.Join(addresses, ","))
	ctx, cancel := context.WithCancel(context.Background())
	p := &probe{end: cancel, done: make(chan struct{}), joined: make(chan time.Time, 100_000)}
	go func() {
		defer close(p.done)
		p.run(ctx, through)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.done
	})
	return p
}

func (p *probe) run(ctx context.Context, through *sim.Cluster) {
	last := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		meeting := "probe-" + time.Now().Format("150405.000000000")
		err := through.Call(ctx, func(ctx context.Context, conn clientConn) error {
			_, err := conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(ctx, &conclavev1.AssignMeetingRequest{MeetingId: meeting})
			if err != nil {
				p.refused++
				if status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled && p.wrong == nil {
					p.wrong = err
				}
			}
			return err
		})
		if err != nil {
			continue
		}
		now := time.Now()
		p.gap = max(p.gap, now.Sub(last))
		last = now
		p.joined <- now
	}
}

func (p *probe) progress(t *testing.T, joins int) {
	t.Helper()
	deadline := time.After(settlePatience)
	for range joins {
		select {
		case <-p.joined:
		case <-deadline:
			t.Fatal("no joins go through")
		}
	}
}

func (p *probe) judge(t *testing.T) {
	t.Helper()
	p.end()
	<-p.done
	t.Logf("the longest time without an answer was %v; %d attempts were refused as unavailable and tried again", p.gap, p.refused)
	if p.wrong != nil {
		t.Errorf("a join failed for a reason that trying again does not help: %v", p.wrong)
	}
	if p.gap > worstFailover {
		t.Errorf("no join was answered for %v", p.gap)
	}
}
