package main

import (
	"context"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/echo"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

// echoSystem answers load reports and does nothing with them.
type echoSystem struct {
	server *echo.Server
	to     *grpcpool.Pool // with as many connections as three replicas have in all
	size   nodes.Size
}

func startEcho(b *bencher, _ context.Context, _ string) (system, error) {
	server, err := echo.Start()
	if err != nil {
		return nil, err
	}
	to, err := grpcpool.Dial([]string{server.Addr}, b.replicas*b.conns)
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &echoSystem{server, to, b.size()}, nil
}

func (e *echoSystem) workloads() []workload {
	return []workload{{system: sysEcho, name: wEcho,
		measure: unaryCalls(func(ctx context.Context, callers, caller, n int, _ string) error {
			seq := seq(callers, caller, n)
			return calls.Report(ctx, e.to.Conn(callers, caller, n), e.size.MediaHandler(seq%e.size.MediaHandlers).ID, seq)
		})}}
}

func (e *echoSystem) notes(context.Context) ([]string, error) { return nil, nil }

func (e *echoSystem) stop() error {
	err := e.to.Close()
	e.server.Stop()
	return err
}
