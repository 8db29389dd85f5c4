package grpcsvc

import (
	"context"

	"github.com/conclave-rtc/conclave/fsm"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// registry reads who is registered.
type registry struct {
	conclavev1.UnimplementedRegistryServiceServer
	*Server
}

// ListMediaHandlers pages through media handlers in the order of their ids.
func (r registry) ListMediaHandlers(ctx context.Context, req *conclavev1.ListMediaHandlersRequest) (*conclavev1.ListMediaHandlersResponse, error) {
	nodes, next, index, err := r.list(ctx, fsm.MediaHandler, req)
	if err != nil {
		return nil, err
	}
	resp := &conclavev1.ListMediaHandlersResponse{NextPageToken: next, Index: index}
	for _, n := range nodes {
		resp.MediaHandlers = append(resp.MediaHandlers, r.encodeMediaHandler(n))
	}
	return resp, nil
}

// GetMediaHandler reads one media handler.
func (r registry) GetMediaHandler(ctx context.Context, req *conclavev1.GetMediaHandlerRequest) (*conclavev1.GetMediaHandlerResponse, error) {
	n, index, err := r.get(ctx, fsm.MediaHandler, req.HandlerId, req.Consistency)
	if err != nil {
		return nil, err
	}
	return &conclavev1.GetMediaHandlerResponse{MediaHandler: r.encodeMediaHandler(n), Index: index}, nil
}

// ListMeetingControllers pages through meeting controllers in the order of their ids.
func (r registry) ListMeetingControllers(ctx context.Context, req *conclavev1.ListMeetingControllersRequest) (*conclavev1.ListMeetingControllersResponse, error) {
	nodes, next, index, err := r.list(ctx, fsm.MeetingController, req)
	if err != nil {
		return nil, err
	}
	resp := &conclavev1.ListMeetingControllersResponse{NextPageToken: next, Index: index}
	for _, n := range nodes {
		resp.MeetingControllers = append(resp.MeetingControllers, r.encodeMeetingController(n))
	}
	return resp, nil
}

// GetMeetingController reads one meeting controller.
func (r registry) GetMeetingController(ctx context.Context, req *conclavev1.GetMeetingControllerRequest) (*conclavev1.GetMeetingControllerResponse, error) {
	n, index, err := r.get(ctx, fsm.MeetingController, req.Id, req.Consistency)
	if err != nil {
		return nil, err
	}
	return &conclavev1.GetMeetingControllerResponse{MeetingController: r.encodeMeetingController(n), Index: index}, nil
}

// listRequest is what the list requests have in common.
type listRequest interface {
	GetRegion() string
	GetPageSize() uint32
	GetPageToken() string
	GetConsistency() conclavev1.Consistency
}

func (s *Server) list(ctx context.Context, kind fsm.Kind, req listRequest) (page []*fsm.Node, next string, index uint64, err error) {
	after, bad := decodeIDCursor(req.GetPageToken())
	if bad != nil {
		return nil, "", 0, invalidField(bad)
	}
	if err := s.prepareRead(ctx, req.GetConsistency(), 0); err != nil {
		return nil, "", 0, err
	}
	size := pageSize(req.GetPageSize())
	index = s.viewAtLeisure(ctx, func(state *fsm.State) {
		state.Nodes(kind, after, func(n *fsm.Node) bool {
			if req.GetRegion() != "" && n.Region != req.GetRegion() {
				return true
			}
			if len(page) == size {
				next = encodeIDCursor(page[size-1].ID)
				return false
			}
			page = append(page, n)
			return true
		})
	})
	return page, next, index, nil
}

func (s *Server) get(ctx context.Context, kind fsm.Kind, id string, c conclavev1.Consistency) (n *fsm.Node, index uint64, err error) {
	if err := s.prepareRead(ctx, c, 0); err != nil {
		return nil, 0, err
	}
	index = s.view(ctx, func(state *fsm.State) { n = state.Node(kind, id) })
	if n == nil {
		return nil, 0, notRegistered(kind, id)
	}
	return n, index, nil
}
