package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// FleetConfig describes a fleet. Counts are of the whole fleet, spread over regions and zones.
type FleetConfig struct {
	MediaHandlers      int
	MeetingControllers int
	Regions            []string // "local" by default
	Zones              []string // "a" and "b" by default
	// Instance goes into the ids, to tell the fleets of several processes apart.
	Instance string
	// Seed decides the sizes of the nodes.
	Seed uint64
	// Stagger is the time over which the nodes start; 1 s by default.
	Stagger time.Duration
	// ReportInterval and ComprehensiveInterval override what the cluster asks for; the first also
	// paces fast heartbeats and the look at who serves what (10 s by default).
	ReportInterval        time.Duration
	ComprehensiveInterval time.Duration
	StaleAfter            time.Duration
	Legacy                bool
	// Host is where the controllers serve, and where the cluster is to call them; 127.0.0.1 by default.
	Host string
	// BearerToken is what the controllers demand of their callers; empty demands nothing.
	BearerToken string
	Logger      hclog.Logger
}

// Fleet is a set of simulated media handlers and meeting controllers. It is safe for concurrent use.
type Fleet struct {
	cfg         FleetConfig
	cluster     *Cluster
	handlers    []*MediaHandler
	controllers []*MeetingController
	// serving is how many live meetings each media handler serves, as the cluster lists them.
	serving atomic.Pointer[map[string]int]
}

// Sizes of media handlers (streams) and meeting controllers (meetings): fleets are never uniform.
var (
	handlerSizes    = []uint32{1000, 2000, 4000}
	controllerSizes = []uint32{500, 1000, 2000}
)

// NewFleet makes the nodes and starts the controllers' servers; Run brings them to life.
func NewFleet(cluster *Cluster, cfg FleetConfig) (*Fleet, error) {
	cfg = cfg.withDefaults()
	f := &Fleet{cfg: cfg, cluster: cluster}
	f.serving.Store(&map[string]int{})
	random := rand.New(rand.NewPCG(cfg.Seed, 0))
	for i := range cfg.MediaHandlers {
		id, region, zone := cfg.place("mh", i)
		f.handlers = append(f.handlers, NewMediaHandler(cluster, MediaHandlerConfig{
			ID: id, Region: region, Zone: zone,
			MaxStreams:     handlerSizes[random.IntN(len(handlerSizes))],
			Meetings:       func() int { return (*f.serving.Load())[id] },
			ReportInterval: cfg.ReportInterval, StaleAfter: cfg.StaleAfter,
			Legacy: cfg.Legacy, Seed: random.Uint64(), Logger: cfg.Logger,
		}))
	}
	for i := range cfg.MeetingControllers {
		id, region, zone := cfg.place("mc", i)
		controller, err := NewMeetingController(cluster, MeetingControllerConfig{
			ID: id, Region: region, Zone: zone, Listen: net.JoinHostPort(cfg.Host, "0"),
			MaxMeetings:  controllerSizes[random.IntN(len(controllerSizes))],
			FastInterval: cfg.ReportInterval, ComprehensiveInterval: cfg.ComprehensiveInterval,
			StaleAfter: cfg.StaleAfter, Legacy: cfg.Legacy, BearerToken: cfg.BearerToken, Logger: cfg.Logger,
		})
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("starting a fleet: %w", err)
		}
		f.controllers = append(f.controllers, controller)
	}
	return f, nil
}

func (cfg FleetConfig) withDefaults() FleetConfig {
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{"local"}
	}
	if len(cfg.Zones) == 0 {
		cfg.Zones = []string{"a", "b"}
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	if cfg.Stagger <= 0 {
		cfg.Stagger = time.Second
	}
	if cfg.StaleAfter <= 0 {
		cfg.StaleAfter = DefaultStaleAfter
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return cfg
}

// place gives node i of a kind its id, region and zone: regions in turn, and zones in turn within
// a region.
func (cfg FleetConfig) place(kind string, i int) (id, region, zone string) {
	region = cfg.Regions[i%len(cfg.Regions)]
	number := i / len(cfg.Regions)
	zone = cfg.Zones[number%len(cfg.Zones)]
	if cfg.Instance != "" {
		kind += "-" + cfg.Instance
	}
	return fmt.Sprintf("%s-%s-%03d", kind, region, number+1), region, zone
}

// MediaHandlers returns the fleet's media handlers. The slice must not be changed.
func (f *Fleet) MediaHandlers() []*MediaHandler { return f.handlers }

// MeetingControllers returns the fleet's meeting controllers. The slice must not be changed.
func (f *Fleet) MeetingControllers() []*MeetingController { return f.controllers }

// Run lets every node register and report until ctx ends, then stops the controllers' servers.
func (f *Fleet) Run(ctx context.Context) {
	var nodes sync.WaitGroup
	start := func(i, of int, run func(context.Context)) {
		nodes.Go(func() {
			if i == 0 || pause(ctx, f.cfg.Stagger*time.Duration(i)/time.Duration(of)) {
				run(ctx)
			}
		})
	}
	for i, handler := range f.handlers {
		start(i, len(f.handlers), handler.Run)
	}
	for i, controller := range f.controllers {
		start(i, len(f.controllers), controller.Run)
	}
	nodes.Go(func() { f.follow(ctx) })
	nodes.Wait()
	f.Close()
}

// Ready waits until the cluster has acknowledged a report of every node.
func (f *Fleet) Ready(ctx context.Context) error {
	waitFor := func(id string, contact *contact) error {
		select {
		case <-contact.first:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for the first report of %s: %w", id, ctx.Err())
		}
	}
	for _, handler := range f.handlers {
		if err := waitFor(handler.ID(), handler.contact); err != nil {
			return err
		}
	}
	for _, controller := range f.controllers {
		if err := waitFor(controller.ID(), controller.contact); err != nil {
			return err
		}
	}
	return nil
}

// Close stops the controllers' servers.
func (f *Fleet) Close() {
	for _, controller := range f.controllers {
		controller.Stop()
	}
}

// follow reads from the cluster which meetings each media handler serves, because the controllers
// that were told may be simulated in another process.
func (f *Fleet) follow(ctx context.Context) {
	if len(f.handlers) == 0 {
		return
	}
	for {
		if err := f.lookAround(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Logger.Debug("cannot tell which meetings the media handlers serve", "error", err)
		}
		if !pause(ctx, firstPositive(f.cfg.ReportInterval, defaultReportInterval)) {
			return
		}
	}
}

func (f *Fleet) lookAround(ctx context.Context) error {
	serving := make(map[string]int)
	err := f.cluster.EachAssignment(ctx, conclavev1.Consistency_STALE, false, func(assignment *conclavev1.Assignment) {
		for _, handler := range assignment.GetMhAssignments() {
			serving[handler.GetMhId()]++
		}
	})
	if err != nil {
		return err
	}
	f.serving.Store(&serving)
	return nil
}
