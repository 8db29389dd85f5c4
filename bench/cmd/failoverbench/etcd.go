package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/version"
	"google.golang.org/grpc"

	"github.com/conclave-rtc/conclave/bench/etcdcluster"
	"github.com/conclave-rtc/conclave/localcluster/netfault"
)

// memberArgument makes this program a member of etcd. It is not for people.
const memberArgument = "etcd-member"

// etcdSystem is etcd with the given timers, its own where they are zero.
func etcdSystem(name, timers string, heartbeat, election time.Duration) system {
	return system{
		name: name,
		about: fmt.Sprintf("etcd %s, %s, pre-vote on, all else as it is by default; a write is a Put of a new key with 8 bytes",
			version.Version, timers),
		start: func(ctx context.Context, dir string, n *netfault.Network) (cluster, error) {
			config := etcdcluster.Config{Dir: dir, Heartbeat: heartbeat, Election: election, Args: []string{memberArgument}}
			if n != nil {
				config.PeerAddr = n.Expose
			}
			c := new(etcdCluster)
			return c, c.start(ctx, config, n)
		},
	}
}

type etcdCluster struct {
	cluster *etcdcluster.Cluster
	conns   []*grpc.ClientConn // one to each member
}

func (c *etcdCluster) start(ctx context.Context, config etcdcluster.Config, n *netfault.Network) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("the members did not start in time"))
	defer cancel()
	if c.cluster, err = etcdcluster.New(config); err != nil {
		return err
	}
	for _, m := range c.cluster.Members() {
		if n != nil {
			n.Process(m.ID, m.PID)
		}
		conn, err := m.Conn()
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
	}
	if err := c.cluster.Start(); err != nil {
		return err
	}
	_, err = c.cluster.Leader(ctx)
	return err
}

func (c *etcdCluster) close() error {
	if c.cluster != nil {
		c.cluster.Stop()
	}
	return nil
}

func (c *etcdCluster) replicas() []replica {
	var all []replica
	for _, m := range c.cluster.Members() {
		all = append(all, replica{id: m.ID, start: m.Start, kill: m.Kill, signal: m.Signal, pid: m.PID})
	}
	return all
}

func (c *etcdCluster) leader(ctx context.Context) (int, error) {
	leader, err := c.cluster.Leader(ctx)
	if err != nil {
		return 0, err
	}
	return slices.Index(c.cluster.Members(), leader), nil
}

func (c *etcdCluster) agree(ctx context.Context) error {
	var views []view
	for _, m := range c.cluster.Members() {
		status, err := m.Status(ctx)
		if err != nil {
			return fmt.Errorf("ask %s how it is: %w", m.ID, err)
		}
		v := view{term: status.RaftTerm, committed: status.RaftIndex, applied: status.RaftAppliedIndex}
		if status.Leader != 0 {
			v.leader = strconv.FormatUint(status.Leader, 16)
		}
		views = append(views, v)
	}
	return agreement(views)
}

// write proves a write by its revision: no other write has it.
func (c *etcdCluster) write(ctx context.Context, through int, key string) (uint64, error) {
	resp, err := etcdserverpb.NewKVClient(c.conns[through]).Put(ctx,
		&etcdserverpb.PutRequest{Key: []byte(key), Value: []byte("8 bytes.")})
	if err != nil {
		return 0, fmt.Errorf("put %s: %w", key, err)
	}
	if resp.Header.GetRevision() <= 0 {
		return 0, errWrong
	}
	return uint64(resp.Header.Revision), nil
}

func (c *etcdCluster) holds(ctx context.Context, w write) (bool, error) {
	resp, err := etcdserverpb.NewKVClient(c.conns[0]).Range(ctx, &etcdserverpb.RangeRequest{Key: []byte(w.key)})
	if err != nil {
		return false, fmt.Errorf("get %s: %w", w.key, err)
	}
	return len(resp.Kvs) == 1 && uint64(resp.Kvs[0].ModRevision) == w.proof, nil
}
