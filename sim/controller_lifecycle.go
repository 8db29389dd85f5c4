package sim

import (
	"fmt"
	"net"

	"google.golang.org/grpc"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// serving is one life of a controller's gRPC server.
type serving struct {
	grpc    *grpc.Server
	stopped chan struct{} // closed when this life ends; frees handlers that hang
	done    chan struct{} // closed when Serve has returned
}

// serve starts the server at the controller's address.
func (m *MeetingController) serve() error {
	m.serverMu.Lock()
	defer m.serverMu.Unlock()
	m.mu.Lock()
	running := m.server != nil
	m.mu.Unlock()
	if running {
		return nil
	}
	listener, err := net.Listen("tcp", m.address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", m.address, err)
	}
	m.address = listener.Addr().String()

	life := &serving{stopped: make(chan struct{}), done: make(chan struct{})}
	life.grpc = grpc.NewServer(grpc.UnaryInterceptor(m.authenticate))
	service := &controllerService{controller: m, stopped: life.stopped}
	darktowerv1.RegisterMeetingControllerServiceServer(life.grpc, service)
	legacy := darktowerv1.MeetingControllerService_ServiceDesc
	legacy.ServiceName = underPackage(legacy.ServiceName, true)
	life.grpc.RegisterService(&legacy, service)

	m.mu.Lock()
	m.server = life
	m.mu.Unlock()
	go func() {
		defer close(life.done)
		if err := life.grpc.Serve(listener); err != nil {
			m.log.Error("meeting controller stopped serving", "error", err)
		}
	}()
	return nil
}

// Stop crashes it: connections break, answers are lost, heartbeats cease. What it hosts stays in
// its memory for a Restart that keeps it. It returns when the port is free.
func (m *MeetingController) Stop() {
	m.serverMu.Lock()
	defer m.serverMu.Unlock()
	m.mu.Lock()
	life := m.server
	m.server = nil
	m.registered = false
	m.mu.Unlock()
	if life == nil {
		return
	}
	// Connections break before the handlers are let go, so that none of their answers gets out.
	life.grpc.Stop()
	close(life.stopped)
	<-life.done
}

// Restart brings it back at the same address after a Stop (or instead of one), with what it
// hosted or with nothing at all. Run, or the next heartbeat, registers again.
func (m *MeetingController) Restart(forget bool) error {
	m.Stop()
	outcome := OutcomeRemembered
	m.mu.Lock()
	if forget {
		outcome = OutcomeForgot
		m.hosting = newHosting()
		m.forgot = true
	}
	m.mu.Unlock()
	m.record(Event{Kind: EventRestart, Outcome: outcome})
	if err := m.serve(); err != nil {
		return fmt.Errorf("restarting meeting controller %s: %w", m.cfg.ID, err)
	}
	m.wake()
	return nil
}
