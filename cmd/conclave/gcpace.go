package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// gcAllowance is how much a replica may allocate between two collections however little it
	// keeps. Go's default is as much as it keeps: with few nodes it would collect all the while,
	// and that is a sixth of what a replica computes.
	gcAllowance = 256 << 20
	// gcDefault is the percentage from which a big heap is collected as by default.
	gcDefault = 100
	gcMost    = 1000
	gcEvery   = 500 * time.Millisecond
)

// paceCollector keeps the collector's percentage right for what is kept, until the context ends.
// Who sets GOGC or GOMEMLIMIT has decided.
func paceCollector(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	kept := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(gcEvery)
	defer tick.Stop()
	for now := 0; ; {
		metrics.Read(kept)
		// Setting it stops the world for a moment, so small falls are not followed, but for the last.
		if want := gcPercent(kept[0].Value.Uint64()); want > now || want < now-now/8 || (want == gcDefault && want != now) {
			now = want
			debug.SetGCPercent(now)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// gcPercent is how much more than what is kept, in bytes, may be allocated before a collection.
func gcPercent(kept uint64) int {
	return int(min(max(gcDefault, 100*gcAllowance/max(kept, 1)), gcMost))
}
