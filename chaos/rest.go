package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

// awaitReady waits until a replica can serve a linearizable read.
func (s *System) awaitReady(ctx context.Context, r *localcluster.Replica) error {
	for deadline := time.Now().Add(catchUpBound); ; {
		resp, err := get(ctx, "http://"+r.HTTPAddr+"/health/ready")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %v", r.ID, catchUpBound)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return (&http.Client{Timeout: time.Second}).Do(req)
}

// leaks looks at what each replica still holds when nobody calls it any more.
func (r *run) leaks(n *nemesis) {
	for _, replica := range r.system.cluster.Replicas() {
		r.report.Checks[9]++
		if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", replica.PID())); err == nil && len(open) > maxOpenFiles {
			r.violations.add(9, "no file is left open", n.history.now(), "%s has %d open files", replica.ID, len(open))
		}
		if goroutines := metric(replica, "go_goroutines"); goroutines > maxGoroutines {
			r.violations.add(9, "no goroutine is left", n.history.now(), "%s has %.0f goroutines", replica.ID, goroutines)
		}
	}
}

// metric reads one metric without labels of a replica; 0 when it does not answer.
func metric(r *localcluster.Replica, name string) float64 {
	resp, err := get(context.Background(), "http://"+r.HTTPAddr+"/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, _ := strconv.ParseFloat(value, 64) // 0: not a number
			return f
		}
	}
	return 0
}

// measureGaps finds out for how long no write was acknowledged after each loss of a leader, through
// the replicas that were not hurt: from the last success before to the first that was sent after.
func (n *nemesis) measureGaps() {
	for _, i := range n.injections {
		if i.Lost == 0 {
			continue
		}
		var before, after time.Duration
		for _, c := range n.history.calls {
			if c.Outcome != Done || !writes(c) || c.Replica == i.On {
				continue
			}
			if c.Back <= i.Lost {
				before = max(before, c.Back)
			} else if c.Sent >= i.Lost && (after == 0 || c.Back < after) {
				after = c.Back
			}
		}
		if before > 0 && after > 0 {
			i.Gap = after - before
		}
	}
}
