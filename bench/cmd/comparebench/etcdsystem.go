package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/calls"
	"github.com/conclave-rtc/conclave/bench/etcdcluster"
	"github.com/conclave-rtc/conclave/bench/grpcpool"
	"github.com/conclave-rtc/conclave/bench/measure"
	"github.com/conclave-rtc/conclave/bench/nodes"
)

const (
	// What a controller would keep in etcd of a media handler, and of an assignment, in bytes.
	reportBytes     = 120
	assignmentBytes = 300
	etcdKeys        = 10_000

	startTimeout = time.Minute
)

// etcdSystem is three members, called through their own gRPC service and without etcd's client, so
// that connections and callers are what Conclave has.
type etcdSystem struct {
	cluster    *etcdcluster.Cluster
	to         *grpcpool.Pool
	report     []byte
	assignment []byte
	term       uint64      // when it started
	background *background // nil when nobody reports
}

func startEtcd(b *bencher, ctx context.Context, dir string) (system, error) {
	cluster, err := etcdcluster.New(etcdcluster.Config{Dir: dir, Args: []string{etcdArgument}})
	if err != nil {
		return nil, err
	}
	e := &etcdSystem{cluster: cluster, report: noise(reportBytes), assignment: noise(assignmentBytes)}
	if err := e.start(ctx, b.conns); err != nil {
		return nil, errors.Join(err, e.stop())
	}
	if b.behind == behindAll {
		e.background = e.reportInBackground(b.size())
	}
	return e, nil
}

func (e *etcdSystem) start(ctx context.Context, conns int) error {
	if err := e.cluster.Start(); err != nil {
		return err
	}
	var err error
	if e.term, err = e.leadership(ctx); err != nil {
		return err
	}
	if e.to, err = grpcpool.Dial(e.cluster.Endpoints(), conns); err != nil {
		return err
	}
	all := e.to.Conns()
	filling, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return nodes.Each(filling, etcdKeys, func(ctx context.Context, i int) error {
		return e.put(ctx, all[i%len(all)], i)
	})
}

// leadership is the term of the leader.
func (e *etcdSystem) leadership(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	leader, err := e.cluster.Leader(ctx)
	if err != nil {
		return 0, err
	}
	status, err := leader.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask %s for its term: %w", leader.ID, err)
	}
	return status.RaftTerm, nil
}

// noise cannot be compressed, as if that mattered.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func (e *etcdSystem) workloads() []workload {
	over := func(call func(ctx context.Context, conn *grpc.ClientConn, run string, seq int) error) func(context.Context, measure.Plan, string) (*measure.Sample, error) {
		return unaryCalls(func(ctx context.Context, callers, caller, n int, run string) error {
			return call(ctx, e.to.Conn(callers, caller, n), run, seq(callers, caller, n))
		})
	}
	return []workload{
		{system: sysEtcd, name: wReport, measure: over(func(ctx context.Context, conn *grpc.ClientConn, _ string, seq int) error {
			return e.put(ctx, conn, seq%etcdKeys)
		})},
		{system: sysEtcd, name: wGet, measure: over(func(ctx context.Context, conn *grpc.ClientConn, _ string, seq int) error {
			return e.get(ctx, conn, seq%etcdKeys)
		})},
		{system: sysEtcd, name: wAssign, measure: over(func(ctx context.Context, conn *grpc.ClientConn, run string, seq int) error {
			return e.create(ctx, conn, "/assignments/"+meetingID(run, seq))
		})},
	}
}

func etcdKey(i int) []byte { return fmt.Appendf(nil, "/media-handlers/mh-%06d", i) }

func (e *etcdSystem) put(ctx context.Context, conn *grpc.ClientConn, i int) error {
	_, err := etcdserverpb.NewKVClient(conn).Put(ctx, &etcdserverpb.PutRequest{Key: etcdKey(i), Value: e.report})
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	return nil
}

func (e *etcdSystem) get(ctx context.Context, conn *grpc.ClientConn, i int) error {
	resp, err := etcdserverpb.NewKVClient(conn).Range(ctx, &etcdserverpb.RangeRequest{Key: etcdKey(i)})
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if len(resp.Kvs) != 1 || len(resp.Kvs[0].Value) != reportBytes {
		return calls.ErrWrong
	}
	return nil
}

// create writes a key unless it is there.
func (e *etcdSystem) create(ctx context.Context, conn *grpc.ClientConn, name string) error {
	key := []byte(name)
	resp, err := etcdserverpb.NewKVClient(conn).Txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{{
			Key: key, Target: etcdserverpb.Compare_CREATE, Result: etcdserverpb.Compare_EQUAL,
			TargetUnion: &etcdserverpb.Compare_CreateRevision{CreateRevision: 0},
		}},
		Success: []*etcdserverpb.RequestOp{{
			Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: &etcdserverpb.PutRequest{Key: key, Value: e.assignment}},
		}},
	})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if !resp.Succeeded {
		return calls.ErrWrong
	}
	return nil
}

// reportInBackground has the same fleet report as Conclave's: a put is a report or a heartbeat.
func (e *etcdSystem) reportInBackground(fleet nodes.Size) *background {
	return inBackground(calls.Reason, func(ctx context.Context, f *failures) (*measure.Sample, error) {
		p := fleetPlan(fleet.MediaHandlers+fleet.Controllers, 0, forever, calls.Timeout, f)
		return measure.Run(ctx, p, inTurn(func(ctx context.Context, caller, n, seq int) error {
			return e.put(ctx, e.to.Conn(p.Callers, caller, n), seq%etcdKeys)
		}))
	})
}

// notes tell when the leader changed, as Conclave's do.
func (e *etcdSystem) notes(ctx context.Context) ([]string, error) {
	term, err := e.leadership(ctx)
	if err != nil {
		return nil, err
	}
	notes := e.background.notes()
	if term != e.term {
		notes = append(notes, fmt.Sprintf("%d elections", term-e.term))
	}
	return notes, nil
}

func (e *etcdSystem) stop() (err error) {
	e.background.stop()
	if e.to != nil {
		err = e.to.Close()
	}
	e.cluster.Stop()
	return err
}
