package assign

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/fsm"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// rig is an assigner that leads, over a log that obeys the test and real meeting controllers.
type rig struct {
	t        *testing.T
	log      *fakeLog
	index    *Index
	assigner *Assigner
	metrics  *Metrics
	depose   context.CancelFunc

	mu  sync.Mutex
	mcs map[string]*sim.MeetingController
}

const (
	// patient is a timeout of calls that no controller of a test exceeds.
	patient = 20 * time.Second
	// impatient is for tests in which one does.
	impatient = 400 * time.Millisecond
)

func newRig(t *testing.T, timeout time.Duration) *rig {
	token, err := OpenTokenFile("", hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return newRigWith(t, timeout, token, hclog.NewNullLogger())
}

func newRigWith(t *testing.T, timeout time.Duration, token *TokenFile, logger hclog.Logger) *rig {
	metrics := NewMetrics(prometheus.NewRegistry())
	controllers := NewControllers(token, timeout, metrics)
	index := NewIndex()
	r := &rig{
		t:       t,
		log:     newFakeLog(observers{index, controllers}),
		index:   index,
		metrics: metrics,
		depose:  func() {},
		mcs:     make(map[string]*sim.MeetingController),
		assigner: NewAssigner(Config{StaleAfter: time.Hour, MaxAttempts: 3, EndedRetention: time.Hour},
			index, controllers, metrics, logger),
	}
	for i, zone := range []string{"a", "a", "b", "b"} {
		r.log.handler(nodeID("mh", i), zone, 0, 1000)
	}
	r.lead()
	t.Cleanup(func() {
		r.depose()
		controllers.Close()
	})
	return r
}

// lead begins the next term of leadership.
func (r *rig) lead() {
	r.depose()
	ctx, cancel := context.WithCancel(context.Background())
	r.depose = cancel
	r.assigner.Lead(r.log, raftnode.Leadership{Term: r.log.elect(), Context: ctx})
}

// controller starts a meeting controller that is registered and healthy.
func (r *rig) controller(id string, script sim.Script) *sim.MeetingController {
	return r.controllerWith(sim.MeetingControllerConfig{ID: id, Region: "eu", Script: script})
}

func (r *rig) controllerWith(cfg sim.MeetingControllerConfig) *sim.MeetingController {
	r.t.Helper()
	mc, err := sim.NewMeetingController(nil, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(mc.Stop)
	r.mu.Lock()
	r.mcs[cfg.ID] = mc
	r.mu.Unlock()
	r.enrol(mc)
	return mc
}

// enrol registers a controller, as after a restart, and lets it report.
func (r *rig) enrol(mc *sim.MeetingController) {
	r.log.ready(registration{kind: fsm.MeetingController, id: mc.ID(), endpoint: mc.Endpoint()})
}

// controllers starts some that share one script: its steps are those of a join, whichever
// controllers are chosen.
func (r *rig) controllers(n int, script sim.Script) {
	for i := range n {
		r.controller(nodeID("mc", i), script)
	}
}

func (r *rig) join(id string) (Placement, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return r.assigner.Join(ctx, Joining{Key: meeting(id)})
}

func (r *rig) mustJoin(id string) Placement {
	r.t.Helper()
	p, err := r.join(id)
	if err != nil {
		r.t.Fatalf("join %s: %v", id, err)
	}
	return p
}

// events are what the controllers were told, in the order of tokens.
func (r *rig) events(kind sim.EventKind) []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []event
	for id, mc := range r.mcs {
		for _, e := range mc.Events() {
			if e.Kind == kind {
				all = append(all, event{id, e})
			}
		}
	}
	slices.SortFunc(all, func(a, b event) int { return int(int64(a.Token) - int64(b.Token)) })
	return all
}

type event struct {
	mc string
	sim.Event
}

// hosts are the controllers that host a meeting, with its token.
func (r *rig) hosts(id string) map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[string]uint64)
	for name, mc := range r.mcs {
		if held, ok := mc.Hosted()[sim.Key{Meeting: id, Region: "eu"}]; ok {
			out[name] = held.Token
		}
	}
	return out
}

// expectOneTuple fails unless the answer, the state, and what the controllers host agree, once
// releases have arrived.
func (r *rig) expectOneTuple(id string, p Placement) {
	r.t.Helper()
	live := r.log.live(meeting(id))
	if live == nil || live.Token != p.Assignment.Token || live.MCID != p.Assignment.MCID ||
		!slices.Equal(live.MediaHandlers, p.Assignment.MediaHandlers) {
		r.t.Fatalf("%s is %+v in the state, and the joiner was told %+v", id, live, p.Assignment)
	}
	eventually(r.t, "the controller of the assignment alone hosts the meeting", func() bool {
		hosts := r.hosts(id)
		return len(hosts) == 1 && hosts[live.MCID] == live.Token
	})
	held := r.mcs[live.MCID].Hosted()[sim.Key{Meeting: id, Region: "eu"}]
	var told []string
	for _, mh := range live.MediaHandlers {
		told = append(told, mh.ID)
	}
	if !slices.Equal(held.MHs, told) {
		r.t.Errorf("the controller was told of %v, the state has %v", held.MHs, told)
	}
}

// expectNothingLeft fails unless no placement is open and nothing is reserved.
func (r *rig) expectNothingLeft() {
	r.t.Helper()
	d := r.assigner.desk.Load()
	eventually(r.t, "no flight and no token is open", func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.flights) == 0 && len(d.placing) == 0
	})
	r.index.mu.Lock()
	defer r.index.mu.Unlock()
	for key, c := range r.index.nodes {
		if c.pending != 0 {
			r.t.Errorf("%d meetings are still reserved on %s", c.pending, key.id)
		}
	}
}

var (
	atCapacity = darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY
	draining   = darktowerv1.RejectionReason_REJECTION_REASON_DRAINING
	unhealthy  = darktowerv1.RejectionReason_REJECTION_REASON_UNHEALTHY
)
