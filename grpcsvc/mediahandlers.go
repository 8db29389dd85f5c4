package grpcsvc

import (
	"context"
	"math/rand/v2"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// mediaHandlers is what media handlers call.
type mediaHandlers struct {
	darktowerv1.UnimplementedMediaHandlerRegistryServiceServer
	*Server
}

// RegisterMH registers a media handler.
func (m mediaHandlers) RegisterMH(ctx context.Context, req *darktowerv1.RegisterMHRequest) (*darktowerv1.RegisterMHResponse, error) {
	err := m.registerNode(ctx, &commandv1.RegisterNode{
		Kind:                 fsm.MediaHandler,
		Id:                   req.HandlerId,
		Region:               req.Region,
		Zone:                 req.Zone,
		GrpcEndpoint:         req.GrpcEndpoint,
		WebtransportEndpoint: req.WebtransportEndpoint,
		Capacity:             req.MaxStreams,
	})
	if err != nil {
		return nil, err
	}
	return &darktowerv1.RegisterMHResponse{
		Accepted:             true,
		Message:              "registered",
		LoadReportIntervalMs: uint64(m.config.LoadReportInterval.Milliseconds()),
	}, nil
}

// SendLoadReport takes a media handler's load report.
func (m mediaHandlers) SendLoadReport(ctx context.Context, req *darktowerv1.SendLoadReportRequest) (*darktowerv1.SendLoadReportResponse, error) {
	r, err := m.report(ctx, &commandv1.ReportLoad{
		Kind:             fsm.MediaHandler,
		Id:               req.HandlerId,
		Health:           fsm.Health(req.Health),
		Usage:            &commandv1.Usage{Used: req.CurrentStreams},
		CpuPercent:       req.CpuUsagePercent,
		MemoryPercent:    req.MemoryUsagePercent,
		BandwidthPercent: req.BandwidthUsagePercent,
	})
	m.metrics.loadReport(err)
	if err != nil {
		return nil, err
	}
	return &darktowerv1.SendLoadReportResponse{Acknowledged: true, Timestamp: unixSeconds(r)}, nil
}

// registerNode registers a node of either kind.
func (s *Server) registerNode(ctx context.Context, reg *commandv1.RegisterNode) error {
	// A registration that has to be sent twice registers once: by this number.
	reg.RegistrationId = rand.Uint64()
	r, err := s.submit(ctx, &commandv1.Command{Op: &commandv1.Command_RegisterNode{RegisterNode: reg}})
	if err != nil {
		return err
	}
	s.reflects(ctx, r.Index)
	s.log.Info("node registered", "kind", reg.Kind, "node", reg.Id, "region", reg.Region,
		"zone", reg.Zone, "endpoint", reg.GrpcEndpoint, "index", r.Index)
	return nil
}

// report commits the report of a node of either kind.
func (s *Server) report(ctx context.Context, rep *commandv1.ReportLoad) (fsm.Result, error) {
	s.number(rep)
	r, err := s.submit(ctx, &commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: rep}})
	return s.reported(ctx, rep, r, err)
}

// number gives a report its session and its number there. One that has to be sent twice, or comes after a
// later one, has no effect: by this number.
func (s *Server) number(rep *commandv1.ReportLoad) {
	rep.Session, rep.Sequence = s.session, s.sequence.Add(1)
}

// reported is the answer to a report.
func (s *Server) reported(ctx context.Context, rep *commandv1.ReportLoad, r fsm.Result, err error) (fsm.Result, error) {
	if err != nil {
		return r, err
	}
	s.reflects(ctx, r.Index)
	if r.Outcome == fsm.NotRegistered {
		return r, notRegistered(rep.Kind, rep.Id)
	}
	return r, nil
}

func unixSeconds(r fsm.Result) uint64 { return uint64(r.StampMs / 1000) }
