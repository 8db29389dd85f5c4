package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

// get asks the HTTP server of a replica.
func get(ctx context.Context, r *localcluster.Replica, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.HTTPAddr+path, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s of %s: %w", path, r.ID, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s of %s: %w", path, r.ID, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("get %s of %s: %w", path, r.ID, err)
	}
	return resp.StatusCode, body, nil
}

// metric is the sum of a replica's metric over all labels that contain the text.
func metric(ctx context.Context, r *localcluster.Replica, name, label string) (float64, error) {
	code, body, err := get(ctx, r, "/metrics")
	if err != nil {
		return 0, err
	}
	if code != http.StatusOK {
		return 0, fmt.Errorf("metrics of %s: status %d", r.ID, code)
	}
	return sumMetric(string(body), name, label)
}

// sumMetric reads Prometheus's text format.
func sumMetric(text, name, label string) (float64, error) {
	sum, found := 0.0, false
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') {
			continue
		}
		found = true
		end := strings.LastIndexByte(rest, ' ')
		if !strings.Contains(rest[:end], label) {
			continue
		}
		value, err := strconv.ParseFloat(rest[end+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read the metric %s: %w", name, err)
		}
		sum += value
	}
	if !found {
		return 0, fmt.Errorf("there is no metric %s", name)
	}
	return sum, nil
}

// heapAfterGC is how many bytes of a replica's Go heap live objects take. The replica must serve
// /debug/pprof, through which it is told to collect its garbage first.
func heapAfterGC(ctx context.Context, r *localcluster.Replica) (float64, error) {
	code, _, err := get(ctx, r, "/debug/pprof/heap?gc=1")
	if err != nil {
		return 0, err
	}
	if code != http.StatusOK {
		return 0, fmt.Errorf("make %s collect its garbage: status %d", r.ID, code)
	}
	return metric(ctx, r, "go_memstats_heap_alloc_bytes", "")
}

const (
	readyPoll    = 20 * time.Millisecond
	readyTimeout = 5 * time.Minute
)

// untilReady waits until a replica is ready, and returns how long that took.
func untilReady(ctx context.Context, r *localcluster.Replica) (time.Duration, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New(r.ID+" does not become ready"))
	defer cancel()
	for {
		if code, _, err := get(ctx, r, "/health/ready"); err == nil && code == http.StatusOK {
			return time.Since(began), nil
		}
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
