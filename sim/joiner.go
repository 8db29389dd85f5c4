package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// JoinersConfig describes a load of joins.
type JoinersConfig struct {
	Workers int      // 8 by default
	Regions []string // "local" by default
	Zones   []string // preferred zones, drawn from; none by default
	// Rate is the joins per second of all workers together; 0 is as fast as they can.
	Rate float64
	// MaxLive bounds the live meetings of each region; 1000 by default. At the bound a worker
	// ends a meeting before it starts another.
	MaxLive int
	// GiveUpAfter bounds one join or end with all of its retries; 30 s by default.
	GiveUpAfter time.Duration
	// Seed makes the order of things repeatable, as far as the timing of answers allows.
	Seed uint64
	// Prefix starts every meeting id, to tell runs apart; "meeting" by default.
	Prefix string
}

// Of the joins, this share goes to a meeting that is live, and that one to a meeting that ended.
const (
	joinLiveShare = 0.20
	rejoinShare   = 0.05
)

// Joiners join and end meetings through all replicas, and put every answer into a ledger.
// It is safe for concurrent use.
type Joiners struct {
	cfg     JoinersConfig
	cluster *Cluster
	ledger  *Ledger
	stats   *joinStats
	pools   map[string]*pool // by region; the map itself never changes
	pace    *pace
	number  atomic.Uint64 // of the last new meeting
}

// NewJoiners makes joiners that report to ledger.
func NewJoiners(cluster *Cluster, ledger *Ledger, cfg JoinersConfig) *Joiners {
	if cfg.Workers <= 0 {
		cfg.Workers = 8
	}
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{"local"}
	}
	if cfg.MaxLive <= 0 {
		cfg.MaxLive = 1000
	}
	if cfg.GiveUpAfter <= 0 {
		cfg.GiveUpAfter = 30 * time.Second
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "meeting"
	}
	j := &Joiners{
		cfg: cfg, cluster: cluster, ledger: ledger, stats: newJoinStats(),
		pools: make(map[string]*pool), pace: newPace(cfg.Rate),
	}
	for _, region := range cfg.Regions {
		j.pools[region] = newPool()
	}
	return j
}

// Run works until ctx ends. A call that is under way then counts as unknown, not as an error.
func (j *Joiners) Run(ctx context.Context) {
	j.stats.start(time.Now())
	defer func() { j.stats.stop(time.Now()) }()
	var workers sync.WaitGroup
	for i := range j.cfg.Workers {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(j.cfg.Seed, uint64(i)))
			for j.pace.wait(ctx) {
				j.step(ctx, random)
			}
		})
	}
	workers.Wait()
}

// MarkKill says that a leader was killed at that time; the gap until joins work again is recorded.
func (j *Joiners) MarkKill(at time.Time) { j.stats.markKill(at) }

// Stats returns the figures so far.
func (j *Joiners) Stats() JoinStats { return j.stats.snapshot(time.Now()) }

// step joins one meeting, and makes room for it first when its region is full.
func (j *Joiners) step(ctx context.Context, random *rand.Rand) {
	region := j.cfg.Regions[random.IntN(len(j.cfg.Regions))]
	pool := j.pools[region]
	if pool.size() >= j.cfg.MaxLive {
		if victim, ok := pool.takeLive(random); ok {
			j.end(ctx, victim)
		}
	}
	switch draw := random.Float64(); {
	case draw < joinLiveShare:
		if known, ok := pool.someLive(random); ok {
			j.join(ctx, random, known)
			return
		}
	case draw < joinLiveShare+rejoinShare:
		if key, ok := pool.takeEnded(random); ok {
			j.join(ctx, random, liveMeeting{Key: key})
			return
		}
	}
	name := fmt.Sprintf("%s-%d", j.cfg.Prefix, j.number.Add(1))
	j.join(ctx, random, liveMeeting{Key: Key{Meeting: name, Region: region}})
}

// join joins a meeting until it is answered or given up. The token of known is that of an earlier
// answer, or 0.
func (j *Joiners) join(ctx context.Context, random *rand.Rand, known liveMeeting) {
	request := &conclavev1.AssignMeetingRequest{MeetingId: known.Meeting, Region: known.Region}
	if len(j.cfg.Zones) > 0 {
		request.PreferredZone = j.cfg.Zones[random.IntN(len(j.cfg.Zones))]
	}
	callCtx, cancel := context.WithTimeout(ctx, j.cfg.GiveUpAfter)
	defer cancel()
	var response *conclavev1.AssignMeetingResponse
	var started time.Time
	began := time.Now()
	err := j.cluster.Call(callCtx, func(attemptCtx context.Context, conn grpc.ClientConnInterface) (err error) {
		started = time.Now()
		response, err = conclavev1.NewAssignmentServiceClient(conn).AssignMeeting(attemptCtx, request)
		j.noteError(ctx, err)
		return err
	})
	acked := time.Now()
	pool := j.pools[known.Region]
	if err != nil {
		// It may live without our knowing: it has to be ended some time, whatever its token.
		pool.add(liveMeeting{Key: known.Key})
		if ctx.Err() == nil {
			j.stats.gaveUp()
		}
		return
	}
	assignment := response.GetAssignment()
	j.ledger.Joined(Join{
		Key: known.Key, Token: assignment.GetFencingToken(), MC: assignment.GetMcId(),
		MHs: mhIDs(assignment.GetMhAssignments()), Started: started, Acked: acked,
	})
	j.stats.joined(began, started, acked, response.GetCreated())
	// The same token as before adds nothing, and another worker may have ended the meeting since.
	if token := assignment.GetFencingToken(); token != known.Token {
		pool.add(liveMeeting{Key: known.Key, Token: token})
	}
}

// end ends a meeting that was taken out of its pool.
func (j *Joiners) end(ctx context.Context, meeting liveMeeting) {
	callCtx, cancel := context.WithTimeout(ctx, j.cfg.GiveUpAfter)
	defer cancel()
	var response *conclavev1.EndMeetingResponse
	err := j.cluster.Call(callCtx, func(attemptCtx context.Context, conn grpc.ClientConnInterface) (err error) {
		response, err = conclavev1.NewAssignmentServiceClient(conn).EndMeeting(attemptCtx, &conclavev1.EndMeetingRequest{
			MeetingId: meeting.Meeting, Region: meeting.Region, FencingToken: meeting.Token, Reason: "simulated end",
		})
		switch status.Code(err) {
		case codes.NotFound, codes.FailedPrecondition:
			// An earlier attempt, or another worker, was first.
		default:
			j.noteError(ctx, err)
		}
		return err
	})
	if err != nil || !response.GetEnded() {
		j.ledger.EndUnknown(meeting.Key, meeting.Token)
		return
	}
	j.ledger.Ended(meeting.Key, meeting.Token, time.Now())
	j.stats.ended()
	j.pools[meeting.Region].addEnded(meeting.Key)
}

// noteError counts a failed attempt, unless it failed because the run is over.
func (j *Joiners) noteError(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		j.stats.failed(Reason(err))
	}
}
