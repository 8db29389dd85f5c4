package sim

import (
	"context"
	"testing"
	"time"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

func TestMediaHandlerReportsWhatItServes(t *testing.T) {
	cluster, replicas := startReplicas(t, 1)
	clock := newTestClock()
	meetings := 10
	handler := NewMediaHandler(cluster, MediaHandlerConfig{
		ID: "mh-1", Region: "eu", MaxStreams: 200, ParticipantsPerMeeting: 5, Now: clock.Now,
		Meetings: func() int { return meetings },
	})
	if !handler.LastAcknowledged().IsZero() {
		t.Error("acknowledged before any report")
	}
	if err := handler.Report(t.Context()); err != nil { // registers first
		t.Fatal(err)
	}
	report := replicas[0].reports["mh-1"]
	if report.GetCurrentStreams() != 50 || report.GetHealth() != darktowerv1.HealthStatus_HEALTHY {
		t.Errorf("report %v, want 50 streams and healthy", report)
	}
	// 50 of 200 streams are 25 %: the processor follows at 80 % of that, with some noise.
	if cpu := report.GetCpuUsagePercent(); cpu < 18 || cpu > 23 {
		t.Errorf("cpu %.1f %%, want about 20", cpu)
	}
	if !handler.LastAcknowledged().Equal(clock.Now()) {
		t.Errorf("last acknowledged %s, want %s", handler.LastAcknowledged(), clock.Now())
	}

	meetings = 1000 // far above its size: percentages stay percentages
	handler.SetHealth(darktowerv1.HealthStatus_DRAINING)
	if err := handler.Report(t.Context()); err != nil {
		t.Fatal(err)
	}
	report = replicas[0].reports["mh-1"]
	if report.GetCurrentStreams() != 5000 || report.GetBandwidthUsagePercent() > 100 || report.GetHealth() != darktowerv1.HealthStatus_DRAINING {
		t.Errorf("overloaded report: %v", report)
	}
	if n := handler.Registrations(); n != 1 {
		t.Errorf("registered %d times, want 1", n)
	}
}

func TestMediaHandlerRegistersAgainWhenUnknown(t *testing.T) {
	cluster, replicas := startReplicas(t, 1)
	for _, legacy := range []bool{false, true} {
		handler := NewMediaHandler(cluster, MediaHandlerConfig{ID: "mh-1", Region: "eu", Legacy: legacy})
		if err := handler.Report(t.Context()); err != nil {
			t.Fatal(err)
		}
		clear(replicas[0].handlers)
		if err := handler.Report(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := handler.Registrations(); n != 2 {
			t.Errorf("legacy=%t: registered %d times, want 2", legacy, n)
		}
		if used := replicas[0].legacyCalls > 0; used != legacy {
			t.Errorf("legacy=%t: called under the older package: %t", legacy, used)
		}
	}
}

func TestMediaHandlerRunSurvivesAFailover(t *testing.T) {
	cluster, replicas := startReplicas(t, 2)
	handler := NewMediaHandler(cluster, MediaHandlerConfig{ID: "mh-1", Region: "eu", ReportInterval: 2 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); handler.Run(ctx) }()
	eventually(t, "the first report", func() bool { return !handler.LastAcknowledged().IsZero() })
	replicas[0].broken.Store(true)
	replicas[1].broken.Store(true)
	before := replicas[0].calls.Load()
	eventually(t, "a report fails", func() bool { return replicas[0].calls.Load() > before })
	last := time.Now()
	replicas[1].broken.Store(false)
	eventually(t, "reports again", func() bool { return handler.LastAcknowledged().After(last) })
	cancel()
	<-done
}

func TestContactMeasuresGaps(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	c := newContact(30 * time.Second) // gaps of up to 24 s are steady
	if _, _, ok := c.steady(at(0)); ok {
		t.Error("steady before any report")
	}
	c.acknowledged(at(0), at(1))
	c.acknowledged(at(20), at(24))
	if since, gap, ok := c.steady(at(44)); !ok || gap || !since.Equal(at(1)) {
		t.Errorf("24 s after the last report: since %s, gap %t, steady %t", since, gap, ok)
	}
	if _, _, ok := c.steady(at(45)); ok {
		t.Error("steady 25 s after the last report")
	}
	// Sent 10 s after the one before, but acknowledged 25 s after: it may have come in late.
	c.acknowledged(at(30), at(45))
	if since, gap, ok := c.steady(at(45)); !ok || !gap || !since.Equal(at(45)) {
		t.Errorf("after a gap: since %s, gap %t, steady %t", since, gap, ok)
	}
}
