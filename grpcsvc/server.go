package grpcsvc

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/conclave-rtc/conclave/assign"
	"github.com/conclave-rtc/conclave/batch"
	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	_ "github.com/conclave-rtc/conclave/proto/darktower/v0" // for reflection
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// Config says how a replica serves.
type Config struct {
	// Region is that of meetings whose request names none.
	Region string
	// LoadReportInterval is what media handlers and meeting controllers are asked to keep.
	LoadReportInterval time.Duration
	// ForwardTimeout bounds the search for a leader.
	ForwardTimeout time.Duration
	// HeartbeatTimeout is after what silence followers miss their leader.
	HeartbeatTimeout time.Duration
	Version          string
}

// Server serves all gRPC services of one replica.
type Server struct {
	config   Config
	log      hclog.Logger
	metrics  *metrics
	node     *raftnode.Node
	assigner *assign.Assigner
	index    *assign.Index

	gates   map[string]*gate // by full method name; read only
	joins   *leaderGate
	grpc    *grpc.Server
	health  *health.Server
	peers   *peers
	submits *batch.Batcher[[]*commandv1.Command, []fsm.Result]
	reads   batch.Rounds[raftnode.ReadIndex]
	// session and sequence number the reports that come alone.
	session  uint64
	sequence atomic.Uint64
	// undecided is the room for reports that streams brought and that are not decided yet.
	undecided *semaphore.Weighted
	stopping  chan struct{} // closed when Stop begins
	done      chan struct{}
}

const (
	maxMessage = 1 << 20
	// maxStreams is how many calls one connection may have under way.
	maxStreams = 4096
	maxHeaders = 16 << 10
	// Fixed windows: gRPC sizes them else by a ping for every message that comes in, which costs
	// as much as a small call. A stream has room for the largest message.
	callWindow = maxMessage
	connWindow = 4 * maxMessage
	// streamWorkers answer calls one after the other, so that not every call grows a stack of its
	// own. When all are busy, a call gets a goroutine of its own.
	streamWorkers = 512
)

// New makes a Server, without a listener yet.
func New(c Config, node *raftnode.Node, assigner *assign.Assigner, index *assign.Index,
	reg prometheus.Registerer, log hclog.Logger) *Server {
	s := &Server{
		config:    c,
		log:       log,
		metrics:   newMetrics(reg, node.Machine()),
		node:      node,
		assigner:  assigner,
		index:     index,
		gates:     newGates(),
		joins:     newLeaderGate(c.HeartbeatTimeout),
		health:    health.NewServer(),
		session:   1 + rand.Uint64N(math.MaxUint64),
		undecided: semaphore.NewWeighted(maxUndecided),
		stopping:  make(chan struct{}),
		done:      make(chan struct{}),
	}
	for method := range s.gates {
		s.metrics.refused.WithLabelValues(bareName(method)) // there from the beginning, at 0
	}
	s.peers = newPeers(node, s.done)
	s.submits = batch.NewGroupBatcher(submitLimits, s.done, s.submitToLeader)
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.StaticStreamWindowSize(callWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InTapHandle(s.turnAway),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(
			s.metrics.server.UnaryServerInterceptor(),
			recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(s.recovered)),
			s.admit,
		),
		grpc.ChainStreamInterceptor(
			s.metrics.server.StreamServerInterceptor(),
			recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(s.recovered)),
		),
	)
	s.register()
	return s
}

func (s *Server) register() {
	s.serveBothPackages(&darktowerv1.MediaHandlerRegistryService_ServiceDesc, mediaHandlers{Server: s})
	s.serveBothPackages(&darktowerv1.GlobalControllerService_ServiceDesc, meetingControllers{Server: s})
	conclavev1.RegisterAssignmentServiceServer(s.grpc, assignments{Server: s})
	conclavev1.RegisterRegistryServiceServer(s.grpc, registry{Server: s})
	conclavev1.RegisterClusterServiceServer(s.grpc, cluster{Server: s})
	replicav1.RegisterReplicaServiceServer(s.grpc, replica{Server: s})
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	s.metrics.server.InitializeMetrics(s.grpc)
}

const (
	packageV1 = "dark_tower.internal.v1."
	packageV0 = "dark_tower.internal."
)

// serveBothPackages serves a Dark Tower service under its name and under its older one. The
// messages of the two are the same on the wire, so one implementation serves both.
func (s *Server) serveBothPackages(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
	older := *desc
	older.ServiceName = packageV0 + desc.ServiceName[len(packageV1):]
	s.grpc.RegisterService(&older, impl)
}

// olderName is a method of a Dark Tower service under the older package name; false for others.
func olderName(method string) (string, bool) {
	name, ok := strings.CutPrefix(method, "/"+packageV1)
	return "/" + packageV0 + name, ok
}

// Serve answers calls on a listener until Stop. It also announces this replica to the cluster
// and keeps its health service true.
func (s *Server) Serve(l net.Listener) error {
	go s.joins.run(s.done)
	go s.announce()
	go s.followReadiness()
	return s.grpc.Serve(l)
}

// Stop answers what is under way, for as long as the context lets it, and takes nothing new.
func (s *Server) Stop(ctx context.Context) {
	s.health.Shutdown()
	close(s.stopping)
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
		s.grpc.Stop()
	}
	close(s.done)
	s.peers.close()
}

const (
	announceRetry = 100 * time.Millisecond
	announceCheck = 5 * time.Second
)

// announce makes the cluster know where this replica serves gRPC and what it understands.
func (s *Server) announce() {
	ctx, cancel := s.context()
	defer cancel()
	for {
		wait := announceCheck
		if !s.node.Announced() {
			wait = announceRetry
			if _, err := s.submit(ctx, s.node.Announcement()); err != nil {
				s.log.Debug("could not announce this replica yet", "error", err)
			}
		}
		select {
		case <-time.After(wait):
		case <-s.done:
			return
		}
	}
}

// context lives as long as the server.
func (s *Server) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-s.done
		cancel()
	}()
	return ctx, cancel
}

const (
	readyTimeout  = time.Second
	readyInterval = time.Second
)

// Ready returns nil when this replica can serve a linearizable read now, else why not.
func (s *Server) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return s.linearize(ctx)
}

// followReadiness sets the health of all services: SERVING while this replica is ready.
func (s *Server) followReadiness() {
	ctx, cancel := s.context()
	defer cancel()
	for {
		state := healthv1.HealthCheckResponse_SERVING
		if s.Ready(ctx) != nil {
			state = healthv1.HealthCheckResponse_NOT_SERVING
		}
		s.health.SetServingStatus("", state)
		for name := range s.grpc.GetServiceInfo() {
			s.health.SetServingStatus(name, state)
		}
		select {
		case <-time.After(readyInterval):
		case <-s.done:
			return
		}
	}
}
