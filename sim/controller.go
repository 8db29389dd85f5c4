package sim

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// MeetingControllerConfig describes one simulated meeting controller. Only ID and Region are
// required.
type MeetingControllerConfig struct {
	ID     string
	Region string
	Zone   string
	// Listen is where its gRPC server listens; 127.0.0.1:0 by default.
	Listen string
	// Advertise returns the grpc_endpoint that it registers, given the address it listens on;
	// by default that address itself.
	Advertise func(address string) string
	// MaxMeetings is how many it takes; 1000 by default.
	MaxMeetings uint32
	// ParticipantsPerMeeting is what it reports for each meeting it hosts; 4 by default.
	ParticipantsPerMeeting uint32
	// Legacy registers and reports under the older package name.
	Legacy bool
	// BearerToken must come with every call when it is not empty.
	BearerToken string
	// Script decides on AssignMeetingWithMh; nil keeps all rules.
	Script Script
	// FastInterval and ComprehensiveInterval override what the cluster asks for.
	FastInterval          time.Duration
	ComprehensiveInterval time.Duration
	// StaleAfter is the cluster's staleness period; DefaultStaleAfter by default.
	StaleAfter time.Duration
	// JournalLimit bounds the events kept; 20 000 by default.
	JournalLimit int
	// Now is the clock of the journal and of staleness; time.Now by default.
	Now    func() time.Time
	Logger hclog.Logger
}

// MeetingController is one simulated meeting controller: a gRPC server under both package names
// that keeps everything a controller owes the cluster, and a client that registers and reports.
// It is safe for concurrent use.
type MeetingController struct {
	cfg     MeetingControllerConfig
	cluster *Cluster
	log     hclog.Logger
	journal *journal
	contact *contact

	mu         sync.Mutex
	hosting    *hosting
	health     darktowerv1.HealthStatus
	script     Script
	registered bool
	fast       time.Duration // as the cluster asked
	full       time.Duration
	lastHeard  time.Time // when the last acknowledged call was sent, registration included
	unwell     bool      // said at some time that it was unhealthy
	forgot     bool      // lost its memory at some time
	server     *serving  // nil while down

	serverMu sync.Mutex // one start or stop at a time; taken before mu
	address  string     // fixed by the first listen, kept over restarts

	registrations atomic.Int64
	changed       chan struct{} // wakes Run; holds one
}

// NewMeetingController starts the gRPC server of a meeting controller; nothing is registered yet.
// cluster may be nil for a controller that is only called.
func NewMeetingController(cluster *Cluster, cfg MeetingControllerConfig) (*MeetingController, error) {
	cfg = cfg.withDefaults()
	m := &MeetingController{
		cfg:     cfg,
		cluster: cluster,
		log:     cfg.Logger.With("mc", cfg.ID),
		journal: newJournal(cfg.JournalLimit),
		contact: newContact(cfg.StaleAfter),
		hosting: newHosting(),
		health:  darktowerv1.HealthStatus_HEALTHY,
		script:  cfg.Script,
		address: cfg.Listen,
		changed: make(chan struct{}, 1),
	}
	if err := m.serve(); err != nil {
		return nil, fmt.Errorf("starting meeting controller %s: %w", cfg.ID, err)
	}
	return m, nil
}

func (cfg MeetingControllerConfig) withDefaults() MeetingControllerConfig {
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.MaxMeetings == 0 {
		cfg.MaxMeetings = 1000
	}
	if cfg.ParticipantsPerMeeting == 0 {
		cfg.ParticipantsPerMeeting = defaultParticipants
	}
	if cfg.StaleAfter <= 0 {
		cfg.StaleAfter = DefaultStaleAfter
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	return cfg
}

// ID returns the controller's id.
func (m *MeetingController) ID() string { return m.cfg.ID }

// Endpoint returns its grpc_endpoint, the same over restarts.
func (m *MeetingController) Endpoint() string {
	m.serverMu.Lock()
	defer m.serverMu.Unlock()
	return "http://" + m.address
}

// advertised is the endpoint at which the cluster is to call it.
func (m *MeetingController) advertised() string {
	if m.cfg.Advertise == nil {
		return m.Endpoint()
	}
	return m.cfg.Advertise(strings.TrimPrefix(m.Endpoint(), "http://"))
}

// Hosted returns a copy of what it hosts.
func (m *MeetingController) Hosted() map[Key]Hosted {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hosting.copy()
}

// Events returns a copy of the latest events, oldest first.
func (m *MeetingController) Events() []Event { return m.journal.copy() }

// Count counts the events of a kind since the beginning, with that outcome or, if it is empty,
// with any.
func (m *MeetingController) Count(kind EventKind, outcome Outcome) int {
	return m.journal.count(kind, outcome)
}

// SetHealth sets what it reports of itself; draining and unhealthy also refuse new meetings.
func (m *MeetingController) SetHealth(health darktowerv1.HealthStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health = health
	if health == darktowerv1.HealthStatus_UNHEALTHY {
		m.unwell = true
	}
}

// SetScript replaces the script from the next notification on; nil keeps all rules.
func (m *MeetingController) SetScript(script Script) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.script = script
}

// AcceptsParticipants tells whether new participants may enter its meetings. Once the cluster has
// acknowledged nothing for the staleness period, a meeting may live elsewhere by now, so it may not.
func (m *MeetingController) AcceptsParticipants() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server != nil && !m.lastHeard.IsZero() && m.cfg.Now().Sub(m.lastHeard) < m.cfg.StaleAfter
}

// Undisturbed tells that it did nothing for which a cluster may take meetings away from it: it
// registered once, never stopped or forgot, never called itself unhealthy, and its heartbeats were
// acknowledged without a gap near the staleness period.
func (m *MeetingController) Undisturbed() bool {
	_, everGap, steady := m.contact.steady(m.cfg.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	return steady && !everGap && !m.unwell && !m.forgot && m.server != nil && m.registrations.Load() == 1
}

// Down tells that its server is stopped: a crashed process hosts nothing.
func (m *MeetingController) Down() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server == nil
}

// objection is why it would not take a meeting that is new to it. The caller holds mu.
func (m *MeetingController) objection(key Key) darktowerv1.RejectionReason {
	_, hosts := m.hosting.hosted[key]
	switch {
	case m.health == darktowerv1.HealthStatus_DRAINING:
		return darktowerv1.RejectionReason_REJECTION_REASON_DRAINING
	case m.health == darktowerv1.HealthStatus_UNHEALTHY:
		return darktowerv1.RejectionReason_REJECTION_REASON_UNHEALTHY
	case !hosts && len(m.hosting.hosted) >= int(m.cfg.MaxMeetings):
		return darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY
	}
	return darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED
}

func (m *MeetingController) record(event Event) {
	event.At = m.cfg.Now()
	m.journal.record(event)
}

// wake makes Run look again at what there is to do.
func (m *MeetingController) wake() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
