package sim

import (
	"context"
	"time"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// Watch looks at the registries every period, until ctx ends, for nodes of the fleet that the
// cluster calls unhealthy although it acknowledged their reports in time.
func (l *Ledger) Watch(ctx context.Context, cluster *Cluster, fleet *Fleet, period time.Duration) {
	for pause(ctx, period) {
		// A look that fails shows nothing: the cluster may be without a replica just now.
		if err := l.Look(ctx, cluster, fleet); err != nil && ctx.Err() == nil {
			fleet.cfg.Logger.Debug("cannot look at the registries", "error", err)
		}
	}
}

// Look does what Watch does, once.
func (l *Ledger) Look(ctx context.Context, cluster *Cluster, fleet *Fleet) error {
	w := watch{ledger: l, cluster: cluster}
	handlers := make(map[string]*MediaHandler, len(fleet.handlers))
	for _, handler := range fleet.handlers {
		handlers[handler.ID()] = handler
	}
	controllers := make(map[string]*MeetingController, len(fleet.controllers))
	for _, controller := range fleet.controllers {
		controllers[controller.ID()] = controller
	}
	err := cluster.EachMediaHandler(ctx, conclavev1.Consistency_STALE, func(listed *conclavev1.MediaHandler) {
		if handler := handlers[listed.GetHandlerId()]; handler != nil && listed.GetHealth() == darktowerv1.HealthStatus_UNHEALTHY {
			w.suspects = append(w.suspects, handler.suspect())
		}
	})
	if err != nil {
		return err
	}
	err = cluster.EachMeetingController(ctx, conclavev1.Consistency_STALE, func(listed *conclavev1.MeetingController) {
		if controller := controllers[listed.GetId()]; controller != nil && listed.GetHealth() == darktowerv1.HealthStatus_UNHEALTHY {
			w.suspects = append(w.suspects, controller.suspect())
		}
	})
	if err != nil {
		return err
	}
	return w.judge(ctx)
}

// watch is one look: nodes listed as unhealthy, and what they know of their own reports.
type watch struct {
	ledger   *Ledger
	cluster  *Cluster
	suspects []suspect
}

// suspect is a node of the fleet that was listed as unhealthy.
type suspect struct {
	id        string
	confessed bool // it said itself at some time that it was unhealthy
	contact   *contact
	now       func() time.Time
	confirm   func(context.Context, grpc.ClientConnInterface) (darktowerv1.HealthStatus, error)
}

func (h *MediaHandler) suspect() suspect {
	h.mu.Lock()
	defer h.mu.Unlock()
	return suspect{
		id: h.cfg.ID, confessed: h.unwell, contact: h.contact, now: h.cfg.Now,
		confirm: func(ctx context.Context, conn grpc.ClientConnInterface) (darktowerv1.HealthStatus, error) {
			answer, err := conclavev1.NewRegistryServiceClient(conn).GetMediaHandler(ctx, &conclavev1.GetMediaHandlerRequest{HandlerId: h.cfg.ID})
			return answer.GetMediaHandler().GetHealth(), err
		},
	}
}

func (m *MeetingController) suspect() suspect {
	m.mu.Lock()
	defer m.mu.Unlock()
	return suspect{
		id: m.cfg.ID, confessed: m.unwell, contact: m.contact, now: m.cfg.Now,
		confirm: func(ctx context.Context, conn grpc.ClientConnInterface) (darktowerv1.HealthStatus, error) {
			answer, err := conclavev1.NewRegistryServiceClient(conn).GetMeetingController(ctx, &conclavev1.GetMeetingControllerRequest{Id: m.cfg.ID})
			return answer.GetMeetingController().GetHealth(), err
		},
	}
}

// judge accuses the cluster of every suspect that reported in time. A stale read may come from a
// replica that is catching up and still lives in a past where the node was rightly unhealthy, so
// a linearizable read has to say the same, and the node must still be reporting after it.
func (w *watch) judge(ctx context.Context) error {
	for _, s := range w.suspects {
		since, _, steady := s.contact.steady(s.now())
		if s.confessed || !steady {
			continue
		}
		var health darktowerv1.HealthStatus
		err := w.cluster.Call(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
			health, err = s.confirm(ctx, conn)
			return err
		})
		if err != nil {
			return err
		}
		seen := s.now()
		stillSince, _, steady := s.contact.steady(seen)
		if health != darktowerv1.HealthStatus_UNHEALTHY || !steady || !stillSince.Equal(since) {
			continue
		}
		w.ledger.accuse(s.id, "%s was unhealthy at %s; its reports had been acknowledged since %s, the last one sent %s before",
			s.id, seen.Format(time.StampMilli), since.Format(time.StampMilli), seen.Sub(s.contact.last()).Round(time.Millisecond))
	}
	return nil
}
