package assign

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const (
	// maxReleases bounds the calls of ReleaseMeeting under way; what comes on top is left to
	// the controllers' heartbeats.
	maxReleases = 256
	// releaseTries is how often one release is tried: more would be retries without end
	// towards a dead controller, whose next heartbeat tells it anyway.
	releaseTries = 3
)

// orphan resolves an acceptance, certain or possible, that is not and will not be committed:
// from here on it is not in flight, so a heartbeat that lists it is told to drop it, and the
// controller is told at once, at best effort.
func (d *desk) orphan(to callee, key fsm.MeetingKey, token uint64, reason string) {
	d.decided(token)
	d.releaseInBackground(to, key, token, reason, func(resolution string) {
		d.metrics.orphans.WithLabelValues(resolution).Inc()
		d.log.Info("orphaned acceptance", "meeting", key.MeetingID, "region", key.Region,
			"mc", to.id, "token", token, "reason", reason, "resolution", resolution)
	})
}

// releaseEnded tells the controller of an assignment that has ended, where it is now.
func (d *desk) releaseEnded(ended *fsm.Assignment) {
	to := callee{id: ended.MCID, endpoint: ended.MCGRPCEndpoint}
	if mc := d.controllerOf(ended); mc != nil {
		to = calleeOf(mc)
	}
	d.releaseInBackground(to, ended.MeetingKey, ended.Token, ended.EndReason, func(string) {})
}

// releaseInBackground tells a controller to drop a meeting at or below a token. How that ended
// is told to resolved: released, unsupported, or left to the controller's heartbeats.
func (a *Assigner) releaseInBackground(to callee, key fsm.MeetingKey, token uint64, reason string, resolved func(string)) {
	select {
	case a.releases <- struct{}{}:
	default:
		resolved("left_to_heartbeat")
		return
	}
	go func() {
		defer func() { <-a.releases }()
		resolved(a.release(to, &darktowerv1.ReleaseMeetingRequest{
			MeetingId: key.MeetingID, Region: key.Region, FencingToken: token, Reason: reason,
		}))
	}()
}

func (a *Assigner) release(to callee, req *darktowerv1.ReleaseMeetingRequest) string {
	// Not bound to the leadership: an orphan stays one when it passes.
	_, err := backoff.Retry(context.Background(), func() (struct{}, error) {
		err := a.controllers.release(context.Background(), to, req)
		if errors.Is(err, errReleaseUnsupported) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{
		InitialInterval: 100 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 3, MaxInterval: time.Second,
	}), backoff.WithMaxTries(releaseTries))
	switch {
	case err == nil:
		return "released"
	case errors.Is(err, errReleaseUnsupported):
		return "unsupported"
	default:
		return "left_to_heartbeat"
	}
}
