package chaos

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/localcluster/diskfault"
)

// A killed process loses nothing that the kernel has, so killing alone cannot tell a log that is
// synced from one that is not. That is witnessed instead: while calls are made one at a time, each
// acknowledged write must see an fsync begin and end on a majority of the replicas between its call
// and its answer.

// witnessed is how many writes are watched.
const witnessed = 20

// ownWrite is how long the leader's writes are made to take while acknowledgements are timed.
const ownWrite = 50 * time.Millisecond

// leaderDurable slows the leader's disk: whatever its followers have, nothing may be acknowledged before it
// has been written there too, as the majority counts it in.
func (r *run) leaderDurable(ctx context.Context, h *history) error {
	if !r.Instrumented {
		return nil // the report says so
	}
	leader, err := r.system.leader(ctx)
	if err != nil {
		return err
	}
	if err := diskfault.Set(leader.DataDir, diskfault.Fault{Only: diskfault.Log, Delay: ownWrite}); err != nil {
		return err
	}
	calls := r.oneByOne(ctx, "timed")
	if err := diskfault.Clear(leader.DataDir); err != nil {
		return err
	}
	if now, err := r.system.leader(ctx); err != nil || now != leader {
		return err // another one's disk is not slow
	}
	for _, c := range calls {
		r.report.Checks[2]++
		if took := c.to.Sub(c.from); took < ownWrite {
			r.violations.add(2, "acknowledged after the leader's own write", h.now(), "a join was acknowledged after %v, the leader's disk took %v", took, ownWrite)
		}
	}
	return nil
}

// durable watches a few writes.
func (r *run) durable(ctx context.Context, h *history) error {
	if needStrace(r.Config) != nil {
		return nil // the report says so
	}
	traces := make(map[string]string)
	var tracers []*exec.Cmd
	for _, replica := range r.system.cluster.Replicas() {
		path := filepath.Join(r.Dir, replica.ID+".fsync")
		tracer, err := traceSyncs(replica, path)
		if err != nil {
			return err
		}
		traces[replica.ID] = path
		tracers = append(tracers, tracer)
	}
	if err := pause(ctx, 500*time.Millisecond); err != nil { // until strace has attached itself
		return err
	}
	calls := r.oneByOne(ctx, "witnessed")
	for _, tracer := range tracers {
		_ = tracer.Process.Signal(syscall.SIGINT) // it lets go of the replica
		_ = tracer.Wait()                         // how it ended says nothing
	}
	syncs := make(map[string][]span)
	for id, path := range traces {
		var err error
		if syncs[id], err = readSyncs(path); err != nil {
			return err
		}
	}
	for _, c := range calls {
		r.report.Checks[2]++
		on := 0
		for _, spans := range syncs {
			if within(spans, c) {
				on++
			}
		}
		if on <= len(syncs)/2 {
			r.violations.add(2, "acknowledged after a majority's fsync", h.now(), "a join was acknowledged with an fsync on %d of %d replicas", on, len(syncs))
		}
	}
	return nil
}

// span is a time by the wall clock, which is strace's.
type span struct{ from, to time.Time }

// oneByOne makes joins one after the other, with pauses that let the log come to rest.
func (r *run) oneByOne(ctx context.Context, name string) (calls []span) {
	probe := &client{clients: &clients{system: r.system, history: newHistory(r.start)}, conn: r.system.clientConns[0], replica: r.system.keeper().ID}
	for i := range witnessed {
		call := &Call{Kind: KindJoin, Meeting: fmt.Sprintf("%s-%d-%d", name, r.Seed, i), Region: regions[0]}
		from := time.Now()
		if probe.make(ctx, call); call.Outcome == Done && call.Created {
			calls = append(calls, span{from, time.Now()})
		}
	}
	return calls
}

func traceSyncs(r *localcluster.Replica, path string) (*exec.Cmd, error) {
	cmd := exec.Command("strace", "-f", "-qq", "-ttt", "-T", "-o", path, "-e", "trace=fsync,fdatasync", "-p", strconv.Itoa(r.PID()))
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("trace the fsyncs of %s: %w", r.ID, err)
	}
	return cmd, nil
}

// readSyncs reads lines such as "4711 1732400000.123456 fdatasync(9) = 0 <0.000345>", and those of
// calls that others interrupted: "… fdatasync(9 <unfinished ...>" and "… resumed>) = 0 <0.000345>",
// which has the time of its end.
func readSyncs(path string) (spans []span, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read traced fsyncs: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		fields := strings.Fields(line)
		took := line[strings.LastIndexByte(line, '<')+1:]
		if len(fields) < 3 || !strings.HasSuffix(took, ">") || !strings.Contains(line, "= 0") {
			continue
		}
		at, err1 := strconv.ParseFloat(fields[1], 64)
		seconds, err2 := strconv.ParseFloat(strings.TrimSuffix(took, ">"), 64)
		if err1 != nil || err2 != nil {
			continue
		}
		stamp := time.UnixMicro(int64(at * 1e6))
		length := time.Duration(seconds * float64(time.Second))
		if strings.Contains(line, "resumed>") {
			spans = append(spans, span{stamp.Add(-length), stamp})
		} else {
			spans = append(spans, span{stamp, stamp.Add(length)})
		}
	}
	return spans, nil
}

// within says whether a sync began and ended within a call. strace's stamps are of a moment after.
func within(syncs []span, call span) bool {
	const slack = time.Millisecond
	for _, s := range syncs {
		if s.from.After(call.from.Add(-slack)) && s.to.Before(call.to.Add(slack)) {
			return true
		}
	}
	return false
}
