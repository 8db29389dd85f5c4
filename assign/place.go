package assign

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// errDecideAgain: the state has changed under the decision; look again.
var errDecideAgain = errors.New("the meeting changed while it was being placed")

const (
	reasonControllerUnhealthy = "controller_unhealthy"
	reasonControllerRestarted = "controller_restarted"
)

// Replaced says whether an assignment ended because another took its place: nobody ended its
// meeting.
func Replaced(ended *fsm.Assignment) bool {
	return ended.EndReason == reasonControllerUnhealthy || ended.EndReason == reasonControllerRestarted
}

// decision is what a placement was decided on.
type decision struct {
	key  fsm.MeetingKey
	zone string // preferred
	// request names the call that is answered, 0 when not all replicas understand that.
	request uint64

	live *fsm.Assignment // the assignment to be replaced, nil for none
	mc   *fsm.Node       // its controller
	why  string          // why it is replaced
	// refusal is what a controller said that was asked again, nil when none was.
	refusal error
}

// exclude are controllers that must not be asked. An unhealthy one that comes back meanwhile
// keeps its meeting: given the same meeting under a new token, whose commit is then refused, it
// would be told to release what it rightly hosts. One that did not answer had its turn.
func (on decision) exclude() []string {
	if on.live != nil && (on.why == reasonControllerUnhealthy || errors.Is(on.refusal, ErrUnreachable)) {
		return []string{on.live.MCID}
	}
	return nil
}

// place makes an assignment: notify, then commit.
func (d *desk) place(j Joining) (Placement, error) {
	decided := decision{key: j.Key, zone: j.PreferredZone}
	if d.node.Understands(fsm.NamedJoinsSince) {
		decided.request = j.Request
	}
	d.node.Machine().View(func(s *fsm.State) {
		if decided.live = s.LiveAssignment(j.Key); decided.live != nil {
			decided.mc = s.Node(fsm.MeetingController, decided.live.MCID)
		}
	})
	if decided.live != nil {
		if stands(decided.live, decided.mc) {
			return Placement{}, errDecideAgain // placed by another since the caller looked
		}
		decided.why = reasonControllerUnhealthy
		if decided.mc != nil && decided.mc.Health != fsm.Unhealthy {
			p, kept, err := d.askAgain(decided)
			if kept || !isRefusal(err) {
				return p, err
			}
			decided.why, decided.refusal = reasonControllerRestarted, err
		}
	}
	return d.placeAnew(decided)
}

// askAgain asks a controller that registered again since it was given a meeting whether it
// still hosts it: the same token and media handlers make it the same notification. When it does
// not keep it, the error is a refusal or ErrUnreachable.
func (d *desk) askAgain(on decision) (p Placement, kept bool, err error) {
	req := d.request(on.key, on.live.Token, on.live.MediaHandlers)
	start := time.Now()
	resp, err := d.controllers.assign(d.lead.Context, calleeOf(on.mc), req)
	if err != nil {
		d.unanswered(on.mc, req, time.Since(start), err)
		return Placement{}, false, ErrUnreachable
	}
	if !resp.Accepted {
		return Placement{}, false, &RejectedError{Reason: resp.RejectionReason}
	}
	r, err := d.node.Propose(context.WithoutCancel(d.lead.Context), raftnode.Urgent, &commandv1.Command{Op: &commandv1.Command_Reconfirm{
		Reconfirm: &commandv1.Reconfirm{
			MeetingId: on.key.MeetingID, Region: on.key.Region,
			FencingToken: on.live.Token, McIncarnation: on.mc.Incarnation,
		},
	}})
	switch {
	case err != nil:
		return Placement{}, false, err // it stands as it stood
	case r.Outcome != fsm.Applied:
		return Placement{}, false, errDecideAgain
	}
	return Placement{Assignment: r.Assignment, Index: r.Index}, true, nil
}

// placeAnew chooses media handlers, then tries controllers, each with a token of its own, until
// one accepts.
func (d *desk) placeAnew(on decision) (Placement, error) {
	handlers := d.index.chooseMediaHandlers(on.key.Region, on.zone)
	d.metrics.selection(len(handlers))
	if len(handlers) == 0 {
		return Placement{}, ErrNoMediaHandlers
	}
	defer func() {
		for _, mh := range handlers {
			d.index.Done(mh)
		}
	}()
	var tried []string
	failure := ErrNoControllers
	if on.refusal != nil {
		failure = on.refusal
	}
	if errors.Is(on.refusal, ErrUnreachable) {
		tried = on.exclude() // it was one of the attempts
	}
	for len(tried) < d.config.MaxAttempts && d.lead.Context.Err() == nil {
		if d.cameBack(on) {
			return Placement{}, errDecideAgain
		}
		mc := d.index.Choose(Query{
			Kind: fsm.MeetingController, Region: on.key.Region, PreferredZone: on.zone,
			Exclude: slices.Concat(tried, on.exclude()),
		})
		if mc == nil {
			return Placement{}, failure
		}
		tried = append(tried, mc.ID)
		p, err := d.try(on, mc, refs(handlers))
		d.index.Done(mc)
		if !isRefusal(err) {
			return p, err
		}
		failure = worse(failure, err)
	}
	if d.lead.Context.Err() != nil {
		return Placement{}, raftnode.ErrNotLeader
	}
	return Placement{}, failure
}

// cameBack says whether the controller that was to be replaced has been heard again.
func (d *desk) cameBack(on decision) bool {
	if on.why != reasonControllerUnhealthy || on.mc == nil {
		return false
	}
	now := d.controllerOf(on.live)
	return now != nil && now.HeardIndex != on.mc.HeardIndex
}

// worse is the failure to report of two: a refusal says more than a silence, the last more than
// the one before.
func worse(before, now error) error {
	var rejected *RejectedError
	if errors.As(before, &rejected) && !errors.As(now, &rejected) {
		return before
	}
	return now
}

func isRefusal(err error) bool {
	var rejected *RejectedError
	return errors.Is(err, ErrUnreachable) || errors.As(err, &rejected)
}

// try asks one controller and commits what it accepts. A refusal sets the controller aside.
func (d *desk) try(on decision, mc *fsm.Node, handlers []fsm.MediaHandlerRef) (Placement, error) {
	token, err := d.drawToken()
	if err != nil {
		return Placement{}, err
	}
	req := d.request(on.key, token, handlers)
	start := time.Now()
	resp, err := d.controllers.assign(d.lead.Context, calleeOf(mc), req)
	switch {
	case err != nil:
		// It may have accepted: no answer is not a refusal.
		d.unanswered(mc, req, time.Since(start), err)
		d.orphan(calleeOf(mc), on.key, token, "no_answer")
		return Placement{}, ErrUnreachable
	case !resp.Accepted:
		d.decided(token)
		d.index.SetAside(mc)
		d.log.Info("meeting controller refused", "meeting", on.key.MeetingID, "region", on.key.Region,
			"mc", mc.ID, "token", token, "reason", rejectionLabel(resp.RejectionReason))
		return Placement{}, &RejectedError{Reason: resp.RejectionReason}
	}
	return d.commit(on, mc, handlers, token)
}

// unanswered hides a controller that did not answer, and says so, unless the leadership has ended: that
// cuts calls short which the controller would have answered.
func (d *desk) unanswered(mc *fsm.Node, req *darktowerv1.AssignMeetingWithMhRequest, after time.Duration, err error) {
	if d.lead.Context.Err() != nil {
		return
	}
	d.index.SetAside(mc)
	d.log.Warn("meeting controller did not answer", "meeting", req.MeetingId, "region", req.Region,
		"mc", mc.ID, "token", req.FencingToken, "after", after, "error", err)
}

// commit records an acceptance, if the meeting still stands as it was decided on.
func (d *desk) commit(on decision, mc *fsm.Node, handlers []fsm.MediaHandlerRef, token uint64) (Placement, error) {
	// The commit outlives the leadership: once proposed, its fate must be known.
	ctx := context.WithoutCancel(d.lead.Context)
	r, err := d.node.Propose(ctx, raftnode.Urgent, on.command(d.node.ID(), mc, handlers, token))
	if errors.Is(err, raftnode.ErrInDoubt) {
		if err := d.node.WaitDecided(ctx, d.lead.Term); err != nil {
			return Placement{}, errors.Join(raftnode.ErrInDoubt, err) // not known, so not to be released
		}
		r, err = d.findOut(on.key, token)
	}
	to := calleeOf(mc)
	switch {
	case err != nil:
		d.orphan(to, on.key, token, "not_committed")
		return Placement{}, err
	case r.Outcome == fsm.Applied:
		d.decided(token)
		d.log.Debug("meeting assigned", "meeting", on.key.MeetingID, "region", on.key.Region,
			"mc", mc.ID, "mhs", len(handlers), "token", token, "index", r.Index)
		if on.live != nil {
			d.releaseEnded(replaced(on))
		}
		return Placement{Assignment: r.Assignment, Created: true, Index: r.Index}, nil
	}
	d.orphan(to, on.key, token, "lost_race")
	if r.Assignment == nil || !stands(r.Assignment, d.controllerOf(r.Assignment)) {
		return Placement{}, errDecideAgain
	}
	return Placement{Assignment: r.Assignment, Index: r.Index}, nil
}

// findOut tells whether an entry that was under way when leadership was lost is committed. The
// log must have decided: not earlier may the acceptance be released.
func (d *desk) findOut(key fsm.MeetingKey, token uint64) (fsm.Result, error) {
	r := fsm.Result{Outcome: fsm.Conflict}
	d.node.Machine().View(func(s *fsm.State) {
		r.Index = s.Index()
		if live := s.LiveAssignment(key); live != nil && live.Token == token {
			r.Outcome, r.Assignment = fsm.Applied, live
		}
	})
	if r.Outcome != fsm.Applied {
		return r, raftnode.ErrNotLeader // the new leader may try anew
	}
	d.metrics.orphans.WithLabelValues("committed").Inc()
	return r, nil
}

func (on decision) command(by string, mc *fsm.Node, handlers []fsm.MediaHandlerRef, token uint64) *commandv1.Command {
	cmd := &commandv1.Assign{
		MeetingId:              on.key.MeetingID,
		Region:                 on.key.Region,
		FencingToken:           token,
		McId:                   mc.ID,
		McIncarnation:          mc.Incarnation,
		McGrpcEndpoint:         mc.GRPCEndpoint,
		McWebtransportEndpoint: mc.WebTransportEndpoint,
		MediaHandlers:          fsm.EncodeMediaHandlers(handlers),
		AssignedBy:             by,
		ReplaceReason:          on.why,
		RequestId:              on.request,
	}
	if on.live != nil {
		cmd.ExpectToken = on.live.Token
		if on.mc != nil {
			cmd.ExpectMcIncarnation = on.mc.Incarnation
			if on.why == reasonControllerUnhealthy {
				cmd.ExpectMcHeardIndex = on.mc.HeardIndex
			}
		}
	}
	return &commandv1.Command{Op: &commandv1.Command_Assign{Assign: cmd}}
}

// replaced is the assignment that a decision replaced, as it ended.
func replaced(on decision) *fsm.Assignment {
	old := *on.live
	old.EndReason = on.why
	return &old
}

func (d *desk) controllerOf(a *fsm.Assignment) (mc *fsm.Node) {
	d.node.Machine().View(func(s *fsm.State) { mc = s.Node(fsm.MeetingController, a.MCID) })
	return mc
}

func (d *desk) request(key fsm.MeetingKey, token uint64, handlers []fsm.MediaHandlerRef) *darktowerv1.AssignMeetingWithMhRequest {
	return &darktowerv1.AssignMeetingWithMhRequest{
		MeetingId:      key.MeetingID,
		Region:         key.Region,
		FencingToken:   token,
		RequestingGcId: d.node.ID(),
		MhAssignments:  MhAssignments(handlers),
	}
}

// MhAssignments returns ranked media handlers as the services name them: the first is the
// primary.
func MhAssignments(handlers []fsm.MediaHandlerRef) []*darktowerv1.MhAssignment {
	out := make([]*darktowerv1.MhAssignment, len(handlers))
	for i, mh := range handlers {
		role := darktowerv1.MhRole_MH_ROLE_PRIMARY
		if i > 0 {
			role = darktowerv1.MhRole_MH_ROLE_BACKUP
		}
		out[i] = &darktowerv1.MhAssignment{
			MhId: mh.ID, WebtransportEndpoint: mh.WebTransportEndpoint, GrpcEndpoint: mh.GRPCEndpoint, Role: role,
		}
	}
	return out
}

func refs(handlers []*fsm.Node) []fsm.MediaHandlerRef {
	out := make([]fsm.MediaHandlerRef, len(handlers))
	for i, mh := range handlers {
		out[i] = fsm.MediaHandlerRef{ID: mh.ID, WebTransportEndpoint: mh.WebTransportEndpoint, GRPCEndpoint: mh.GRPCEndpoint}
	}
	return out
}

func calleeOf(mc *fsm.Node) callee {
	return callee{id: mc.ID, endpoint: mc.GRPCEndpoint, dialect: mc.Dialect}
}

// rejectionLabel is a reason as metrics and logs name it: at_capacity, draining, unhealthy.
func rejectionLabel(r darktowerv1.RejectionReason) string {
	if _, known := darktowerv1.RejectionReason_name[int32(r)]; !known {
		r = darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED // not a label of the controller's choosing
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), "REJECTION_REASON_"))
}
