package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const (
	defaultParticipants   = 4
	defaultReportInterval = 10 * time.Second
)

// MediaHandlerConfig describes one simulated media handler. Only ID and Region are required.
type MediaHandlerConfig struct {
	ID     string
	Region string
	Zone   string
	// MaxStreams is its size; 1000 by default.
	MaxStreams uint32
	// Meetings returns how many meetings it serves now; nil means none.
	Meetings func() int
	// ParticipantsPerMeeting is how many streams each meeting is; 4 by default.
	ParticipantsPerMeeting uint32
	// ReportInterval overrides what the cluster asks for.
	ReportInterval time.Duration
	// Legacy speaks under the older package name.
	Legacy bool
	// StaleAfter is the cluster's staleness period; DefaultStaleAfter by default.
	StaleAfter time.Duration
	// Seed makes the noise in its reports repeatable.
	Seed uint64
	// Now is the clock that reports are timed with; time.Now by default.
	Now    func() time.Time
	Logger hclog.Logger
}

// MediaHandler is one simulated media handler. It is safe for concurrent use.
type MediaHandler struct {
	cfg     MediaHandlerConfig
	cluster *Cluster
	log     hclog.Logger
	contact *contact

	mu            sync.Mutex
	health        darktowerv1.HealthStatus
	unwell        bool // said at some time that it was unhealthy
	registered    bool
	registrations int
	asked         time.Duration // report interval that the cluster asked for
	noise         *rand.Rand
}

// NewMediaHandler makes a media handler; nothing is sent yet.
func NewMediaHandler(cluster *Cluster, cfg MediaHandlerConfig) *MediaHandler {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 1000
	}
	if cfg.Meetings == nil {
		cfg.Meetings = func() int { return 0 }
	}
	if cfg.ParticipantsPerMeeting == 0 {
		cfg.ParticipantsPerMeeting = defaultParticipants
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return &MediaHandler{
		cfg: cfg, cluster: cluster, log: cfg.Logger.With("mh", cfg.ID),
		contact: newContact(cfg.StaleAfter),
		health:  darktowerv1.HealthStatus_HEALTHY,
		noise:   rand.New(rand.NewPCG(cfg.Seed, 1)),
	}
}

// ID returns the handler's id.
func (h *MediaHandler) ID() string { return h.cfg.ID }

// LastAcknowledged returns when the last report that the cluster acknowledged was sent; zero when
// there was none.
func (h *MediaHandler) LastAcknowledged() time.Time { return h.contact.last() }

// Registrations returns how often it was registered.
func (h *MediaHandler) Registrations() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.registrations
}

// SetHealth sets what the next reports say of its health.
func (h *MediaHandler) SetHealth(health darktowerv1.HealthStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.health = health
	if health == darktowerv1.HealthStatus_UNHEALTHY {
		h.unwell = true
	}
}

// Register registers it, as a process does that has just started.
func (h *MediaHandler) Register(ctx context.Context) error {
	request := &darktowerv1.RegisterMHRequest{
		HandlerId: h.cfg.ID, Region: h.cfg.Region, Zone: h.cfg.Zone, MaxStreams: h.cfg.MaxStreams,
		WebtransportEndpoint: "https://" + h.cfg.ID + ".sim.invalid",
		GrpcEndpoint:         "http://" + h.cfg.ID + ".sim.invalid:50052",
	}
	var response darktowerv1.RegisterMHResponse
	err := h.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		return invoke(ctx, conn, darktowerv1.MediaHandlerRegistryService_RegisterMH_FullMethodName, h.cfg.Legacy, request, &response)
	})
	if err == nil && !response.GetAccepted() {
		err = status.Error(codes.FailedPrecondition, response.GetMessage())
	}
	if err != nil {
		return fmt.Errorf("registering media handler %s: %w", h.cfg.ID, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.registered = true
	h.registrations++
	h.asked = time.Duration(response.GetLoadReportIntervalMs()) * time.Millisecond
	return nil
}

// Report sends one load report, registering before it when that is due, and again when the
// cluster does not know the handler.
func (h *MediaHandler) Report(ctx context.Context) error {
	for again := false; ; again = true {
		h.mu.Lock()
		registered := h.registered
		h.mu.Unlock()
		if !registered {
			if err := h.Register(ctx); err != nil {
				return err
			}
		}
		err := h.send(ctx)
		if status.Code(err) == codes.NotFound && !again {
			h.mu.Lock()
			h.registered = false
			h.mu.Unlock()
			continue
		}
		if err != nil {
			return fmt.Errorf("load report of %s: %w", h.cfg.ID, err)
		}
		return nil
	}
}

func (h *MediaHandler) send(ctx context.Context) error {
	var response darktowerv1.SendLoadReportResponse
	var sent time.Time
	err := h.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) error {
		sent = h.cfg.Now()
		return invoke(ctx, conn, darktowerv1.MediaHandlerRegistryService_SendLoadReport_FullMethodName, h.cfg.Legacy, h.load(), &response)
	})
	if err != nil {
		return err
	}
	if !response.GetAcknowledged() {
		return status.Error(codes.FailedPrecondition, "load report not acknowledged")
	}
	h.contact.acknowledged(sent, h.cfg.Now())
	return nil
}

// Run registers and reports until ctx ends, over failovers.
func (h *MediaHandler) Run(ctx context.Context) {
	for first := true; ctx.Err() == nil; {
		interval := h.interval()
		callCtx, cancel := context.WithTimeout(ctx, max(interval, time.Second))
		err := h.Report(callCtx)
		cancel()
		switch {
		case err != nil:
			h.log.Debug("load report failed", "error", err)
			pause(ctx, retryDelay(0))
		case first:
			// Handlers that started together spread over the interval, having learned it.
			first = false
			pause(ctx, rand.N(h.interval()))
		default:
			pause(ctx, interval*19/20+rand.N(interval/10+1))
		}
	}
}

func (h *MediaHandler) interval() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return firstPositive(h.cfg.ReportInterval, h.asked, defaultReportInterval)
}

// load is what it reports: streams follow the meetings it was given, and the processor and the
// network follow the streams, a few percent of noise apart.
func (h *MediaHandler) load() *darktowerv1.SendLoadReportRequest {
	streams := uint32(max(h.cfg.Meetings(), 0)) * h.cfg.ParticipantsPerMeeting
	share := 100 * float64(streams) / float64(h.cfg.MaxStreams)
	h.mu.Lock()
	defer h.mu.Unlock()
	percent := func(of float64) float32 {
		noisy := share*of*(0.97+0.06*h.noise.Float64()) + h.noise.Float64()
		return float32(min(noisy, 100))
	}
	return &darktowerv1.SendLoadReportRequest{
		HandlerId: h.cfg.ID, CurrentStreams: streams, Health: h.health,
		CpuUsagePercent: percent(0.8), MemoryUsagePercent: percent(0.5), BandwidthUsagePercent: percent(0.9),
	}
}
