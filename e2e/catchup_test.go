package e2e

import (
	"strings"
	"testing"
)

const installedSnapshot = "Installed remote snapshot"

// A replica that was down for a while gets what it missed from the log of the others.
func TestCatchUpByLog(t *testing.T) {
	c := startCluster(t)
	follower := c.except(c.leader(t))[0]
	before := logSize(t, follower)
	kill(t, follower)
	newReporter(c.all).report(t, 100)
	c.restart(t, follower)
	c.converge(t)
	if log := logSince(t, follower, before); strings.Contains(log, installedSnapshot) {
		t.Errorf("%s caught up by a snapshot, though the log had everything", follower.ID)
	}
}

// A replica that was down for longer than the log reaches back gets a snapshot, and ends in the
// same state.
func TestCatchUpBySnapshot(t *testing.T) {
	// The write-ahead log still has old entries in its current segment, and would send them.
	c := startCluster(t, append(frequentSnapshots, "--log-store", "bolt")...)
	follower := c.except(c.leader(t))[0]
	before := logSize(t, follower)
	kill(t, follower)
	reporter := newReporter(c.all)
	reporter.untilNewSnapshots(t, c.except(follower))
	c.restart(t, follower)
	c.converge(t)
	if log := logSince(t, follower, before); !strings.Contains(log, installedSnapshot) {
		t.Errorf("%s installed no snapshot", follower.ID)
	}
	// What came by snapshot goes on by log, and survives a restart.
	reporter.report(t, 20)
	kill(t, follower)
	c.restart(t, follower)
	c.converge(t)
}
