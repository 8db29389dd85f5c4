package grpcsvc

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/fsm"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
)

// assignments is what client gateways call.
type assignments struct {
	conclavev1.UnimplementedAssignmentServiceServer
	*Server
}

// meetingKey fills in this replica's region where a request names none.
func (s *Server) meetingKey(meetingID, region string) fsm.MeetingKey {
	if region == "" {
		region = s.config.Region
	}
	return fsm.MeetingKey{Region: region, MeetingID: meetingID}
}

func (s *Server) joining(req *conclavev1.AssignMeetingRequest, call uint64) assign.Joining {
	return assign.Joining{Key: s.meetingKey(req.MeetingId, req.Region), PreferredZone: req.PreferredZone, Request: call}
}

// AssignMeeting returns the live assignment of a meeting, or makes one.
func (a assignments) AssignMeeting(ctx context.Context, req *conclavev1.AssignMeetingRequest) (*conclavev1.AssignMeetingResponse, error) {
	j := a.joining(req, requestID(ctx))
	return atLeader(ctx, a.Server, "AssignMeeting",
		func() (*conclavev1.AssignMeetingResponse, error) {
			p, err := a.join(ctx, j)
			if err != nil {
				return nil, err
			}
			a.reflects(ctx, p.Index)
			return encodePlacement(p), nil
		},
		func(ctx context.Context, leader *leaderView) (*conclavev1.AssignMeetingResponse, error) {
			resp, err := leader.ask(ctx, &replicav1.ForwardRequest{
				RequestId: j.Request,
				Request: &replicav1.ForwardRequest_AssignMeeting{AssignMeeting: &conclavev1.AssignMeetingRequest{
					MeetingId: j.Key.MeetingID, Region: j.Key.Region, PreferredZone: j.PreferredZone,
				}},
			})
			if err != nil {
				return nil, err
			}
			result := resp.GetAssignMeeting()
			if result.GetResponse() == nil {
				return nil, errors.New("the leader answered a join without a result")
			}
			reflectsOf(ctx, leader.id, result.Index)
			return result.Response, nil
		})
}

// join joins a meeting at the leader.
func (s *Server) join(ctx context.Context, j assign.Joining) (assign.Placement, error) {
	switch in := s.joins.enter(ctx); {
	case !in && ctx.Err() != nil:
		return assign.Placement{}, ctx.Err() // it was given up, not refused
	case !in:
		return assign.Placement{}, s.overloaded(conclavev1.AssignmentService_AssignMeeting_FullMethodName)
	}
	defer s.joins.leave()
	p, err := s.assigner.Join(ctx, j)
	if err != nil {
		return p, placementStatus(err, j.Key, 0)
	}
	return p, nil
}

// GetAssignment reads the live assignment of a meeting.
func (a assignments) GetAssignment(ctx context.Context, req *conclavev1.GetAssignmentRequest) (*conclavev1.GetAssignmentResponse, error) {
	if err := a.prepareRead(ctx, req.Consistency, req.MinIndex); err != nil {
		return nil, err
	}
	key := a.meetingKey(req.MeetingId, req.Region)
	var live *fsm.Assignment
	index := a.view(ctx, func(s *fsm.State) { live = s.LiveAssignment(key) })
	if live == nil {
		return nil, noAssignment(key.MeetingID, key.Region)
	}
	return &conclavev1.GetAssignmentResponse{Assignment: encodeAssignment(live), Index: index}, nil
}

// EndMeeting ends the assignment of a meeting, and tells its controller.
func (a assignments) EndMeeting(ctx context.Context, req *conclavev1.EndMeetingRequest) (*conclavev1.EndMeetingResponse, error) {
	e := ending{key: a.meetingKey(req.MeetingId, req.Region), token: req.FencingToken, reason: req.Reason}
	if err := a.end(ctx, e); err != nil {
		return nil, err
	}
	return &conclavev1.EndMeetingResponse{Ended: true}, nil
}

// ending is an assignment that somebody wants ended.
type ending struct {
	key          fsm.MeetingKey
	token        uint64 // 0: whichever is live
	reason       string
	request      uint64 // the same over all attempts of one call
	byController bool
}

// end ends an assignment. When no token is given, the one that is live now is meant, and named
// from here on: "whichever is live", sent twice, could end the one after it too.
func (s *Server) end(ctx context.Context, e ending) error {
	e.request = requestID(ctx)
	var reflected metadata.MD // of the last attempt: what is set twice is sent twice
	defer func() { setHeader(ctx, reflected) }()
	for {
		named := e
		if e.token == 0 {
			token, err := s.liveToken(ctx, e)
			if err != nil || token == 0 {
				return err
			}
			named.token = token
		}
		var err error
		reflected, err = s.endNamed(ctx, named)
		if e.token != 0 || (ReasonOf(err) != ReasonFenced && ReasonOf(err) != ReasonNoAssignment) {
			return err
		}
		// It is not live any more. If it has ended meanwhile, by an attempt of this call whose
		// answer was lost perhaps, there is nothing left to do: the next one is not meant. If it
		// was only placed anew, it is still the same meeting.
		if err := s.linearize(ctx); err != nil {
			return err
		}
		var ended *fsm.Assignment
		s.node.Machine().View(func(state *fsm.State) { ended = state.Ended(named.key, named.token) })
		if ended != nil && !assign.Replaced(ended) {
			return nil
		}
	}
}

// liveToken is the token of the live assignment; 0 when there is nothing to do, since the
// controller only repeats that its meeting has ended, or may mean another assignment.
func (s *Server) liveToken(ctx context.Context, e ending) (uint64, error) {
	if err := s.linearize(ctx); err != nil {
		return 0, err
	}
	var live, last *fsm.Assignment
	var former *fsm.Node
	s.node.Machine().View(func(state *fsm.State) {
		live, last = state.LiveAssignment(e.key), state.LastEnded(e.key)
		if last != nil {
			former = state.Node(fsm.MeetingController, last.MCID)
		}
	})
	switch {
	case live != nil && e.byController && takenFrom(former, last, live):
		s.log.Warn("a controller ended a meeting without its token; ignored, as it may be the former one, which is back",
			"meeting", e.key.MeetingID, "region", e.key.Region, "mc", live.MCID, "token", live.Token, "former_mc", former.ID)
		return 0, nil
	case live != nil:
		return live.Token, nil
	case e.byController && last != nil:
		return 0, nil
	}
	return 0, noAssignment(e.key.MeetingID, e.key.Region)
}

// takenFrom says whether a live assignment was taken from a controller that was silent, and is back without
// having restarted: one that knows no tokens may host the meeting still. When it says that the meeting
// has ended, the call that goes on elsewhere is not meant.
func takenFrom(former *fsm.Node, last, live *fsm.Assignment) bool {
	return former != nil && assign.Replaced(last) && last.MCID != live.MCID &&
		former.Incarnation == last.MCIncarnation && former.Health != fsm.Unhealthy
}

// endNamed returns what the answer reflects, if it is known.
func (s *Server) endNamed(ctx context.Context, e ending) (metadata.MD, error) {
	ctx = metadata.AppendToOutgoingContext(ctx, headerRequest, strconv.FormatUint(e.request, 10))
	return atLeader(ctx, s, "EndMeeting",
		func() (metadata.MD, error) { return s.endHere(ctx, e) },
		func(ctx context.Context, leader *leaderView) (metadata.MD, error) {
			if e.byController {
				return pass(ctx, s, leader, darktowerv1.GlobalControllerService_NotifyMeetingEnded_FullMethodName,
					&darktowerv1.NotifyMeetingEndedRequest{MeetingId: e.key.MeetingID, Region: e.key.Region, FencingToken: e.token},
					new(darktowerv1.NotifyMeetingEndedResponse))
			}
			return pass(ctx, s, leader, conclavev1.AssignmentService_EndMeeting_FullMethodName,
				&conclavev1.EndMeetingRequest{MeetingId: e.key.MeetingID, Region: e.key.Region, FencingToken: e.token, Reason: e.reason},
				new(conclavev1.EndMeetingResponse))
		})
}

func (s *Server) endHere(ctx context.Context, e ending) (metadata.MD, error) {
	r, err := s.assigner.End(ctx, e.key, e.token, e.reason, e.request)
	if errors.Is(err, assign.ErrFenced) || errors.Is(err, assign.ErrNoAssignment) {
		return headerOf(s.node.ID(), r.Index), placementStatus(err, e.key, e.token)
	}
	if err != nil {
		return nil, placementStatus(err, e.key, e.token)
	}
	s.log.Info("meeting ended", "meeting", e.key.MeetingID, "region", e.key.Region,
		"mc", r.Assignment.MCID, "token", e.token, "reason", e.reason, "index", r.Index)
	if !e.byController {
		s.assigner.ReleaseEnded(r.Assignment)
	}
	return headerOf(s.node.ID(), r.Index), nil
}

// ListAssignments pages through assignments.
func (a assignments) ListAssignments(ctx context.Context, req *conclavev1.ListAssignmentsRequest) (*conclavev1.ListAssignmentsResponse, error) {
	after, bad := decodeCursor(req.PageToken)
	if bad != nil {
		return nil, invalidField(bad)
	}
	if err := a.prepareRead(ctx, req.Consistency, 0); err != nil {
		return nil, err
	}
	resp := new(conclavev1.ListAssignmentsResponse)
	size := pageSize(req.PageSize)
	var last *fsm.Assignment
	resp.Index = a.viewAtLeisure(ctx, func(s *fsm.State) {
		s.Assignments(after, req.Region, req.McId, req.IncludeEnded, func(as *fsm.Assignment) bool {
			if len(resp.Assignments) == size {
				resp.NextPageToken = encodeCursor(last)
				return false
			}
			resp.Assignments = append(resp.Assignments, encodeAssignment(as))
			last = as
			return true
		})
	})
	return resp, nil
}
