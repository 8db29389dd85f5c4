package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/replica"
)

// Who gives the heartbeat timeout alone need not know what else must be on which side of it.
func TestTimingFollowsTheHeartbeatTimeout(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want raftnode.Timing
	}{
		{"nothing", nil, raftnode.DefaultTiming},
		{"shorter", []string{"--raft-heartbeat-timeout=200ms"},
			raftnode.Timing{HeartbeatTimeout: 200 * time.Millisecond, ElectionTimeout: 200 * time.Millisecond, LeaderLease: 200 * time.Millisecond}},
		{"longer", []string{"--raft-heartbeat-timeout=2s"},
			raftnode.Timing{HeartbeatTimeout: 2 * time.Second, ElectionTimeout: 2 * time.Second, LeaderLease: 2 * time.Second}},
		{"all", []string{"--raft-heartbeat-timeout=2s", "--raft-election-timeout=3s", "--raft-leader-lease=1s"},
			raftnode.Timing{HeartbeatTimeout: 2 * time.Second, ElectionTimeout: 3 * time.Second, LeaderLease: time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := &serveOptions{Config: replica.Default()}
			flags := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
			o.addFlags(flags)
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			o.followHeartbeatTimeout(flags)
			if o.Timing != c.want {
				t.Errorf("timing %+v, want %+v", o.Timing, c.want)
			}
		})
	}
}
