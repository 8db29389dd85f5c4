package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/localcluster/diskfault"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// A leader sends an entry to its followers while it writes it itself. As long as its own disk has
// not got it, nobody is told of it: neither who wrote it nor who reads at any replica.
func TestACommitWaitsForTheLeadersDisk(t *testing.T) {
	const delay = time.Second
	// Another leader may tell of the write at once: there must be none.
	c := startReplicas(t, withFaultyDisk(t), 3, "--raft-heartbeat-timeout", "2s", "--raft-election-timeout", "2s", "--raft-leader-lease", "2s")
	leader := c.leader(t)
	if err := diskfault.Set(leader.DataDir, diskfault.Fault{Only: diskfault.Log, Delay: delay}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	handlers, ctx := darktowerv1.NewMediaHandlerRegistryServiceClient(connection(t, leader)), patience(t, runPatience)
	answered := make(chan error, 1)
	go func() {
		_, err := handlers.RegisterMH(ctx, someHandler)
		answered <- err
	}()
	for waiting := true; waiting; {
		select {
		case err := <-answered:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		case <-time.After(pollInterval):
		}
		for _, r := range c.Replicas() {
			registered, err := handlersAt(t, r, conclavev1.Consistency_STALE)
			if err != nil {
				t.Fatal(err)
			}
			if after := time.Since(began); after < delay && registered > 0 {
				t.Fatalf("%s knew of the write after %v, the leader's disk took %v", r.ID, after, delay)
			}
		}
	}
	if after := time.Since(began); after < delay {
		t.Errorf("acknowledged after %v, the leader's disk took %v", after, delay)
	}
	if err := diskfault.Clear(leader.DataDir); err != nil {
		t.Fatal(err)
	}
	c.converge(t)
}

// A leader that dies before its own disk has an entry leaves it to those that have it. It was not
// acknowledged, and is not lost: everybody goes on with it, the leader included, whose log has a part less.
func TestALeaderDiesBeforeItHasWritten(t *testing.T) {
	c := startReplicas(t, withFaultyDisk(t), 3)
	leader := c.leader(t)
	c.awaitAnnounced(t, leader) // else the write that kills it may be one of theirs, with ours still behind it
	// For a second its followers may write; then it dies, and has not.
	if err := diskfault.Set(leader.DataDir, diskfault.Fault{Only: diskfault.Log, Delay: time.Second, Kill: true}); err != nil {
		t.Fatal(err)
	}
	_, err := darktowerv1.NewMediaHandlerRegistryServiceClient(connection(t, leader)).RegisterMH(patience(t, runPatience), someHandler)
	if err == nil {
		t.Fatal("acknowledged by a leader that had not written it")
	}
	_ = leader.Wait() // by a signal
	if err := diskfault.Clear(leader.DataDir); err != nil {
		t.Fatal(err)
	}
	for _, r := range c.except(leader) {
		until(t, settlePatience, r.ID+" has what the leader sent", func() error {
			registered, err := handlersAt(t, r, conclavev1.Consistency_LINEARIZABLE)
			if err == nil && registered != 1 {
				err = fmt.Errorf("%d handlers are registered", registered)
			}
			return err
		})
	}
	c.restart(t, leader)
	c.converge(t)
}

var someHandler = &darktowerv1.RegisterMHRequest{
	HandlerId: "mh-1", Region: "local", MaxStreams: 10, WebtransportEndpoint: "https://mh-1", GrpcEndpoint: "grpc://mh-1",
}

// handlersAt is how many media handlers a replica knows.
func handlersAt(t *testing.T, r *localcluster.Replica, c conclavev1.Consistency) (int, error) {
	resp, err := conclavev1.NewRegistryServiceClient(connection(t, r)).ListMediaHandlers(patience(t, runPatience),
		&conclavev1.ListMediaHandlersRequest{Consistency: c})
	return len(resp.GetMediaHandlers()), err
}
