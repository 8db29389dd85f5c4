package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profile takes a CPU profile of the leader while one workload is measured in the first round.
// The function that it returns waits until the profile is written.
func (r *round) profile(ctx context.Context, k key) func() error {
	if r.profiles == "" || r.number != 1 {
		return func() error { return nil }
	}
	written := make(chan error, 1)
	go func() { written <- r.takeProfile(ctx, k) }()
	return func() error { return <-written }
}

func (r *round) takeProfile(ctx context.Context, k key) (err error) {
	leader, err := r.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(r.warmUp):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", leader.HTTPAddr, max(1, int(r.time.Seconds())))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("profile %s: %w", leader.ID, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("profile %s: %w", leader.ID, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: %s", leader.ID, resp.Status)
	}
	if err := os.MkdirAll(r.profiles, 0o755); err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	file, err := os.Create(filepath.Join(r.profiles, fmt.Sprintf("%s-%s-%d.pprof", k.store, k.workload, k.callers)))
	if err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if _, err := io.Copy(file, resp.Body); err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	return nil
}
