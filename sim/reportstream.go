package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// ReportStreamConfig describes a stream of load reports.
type ReportStreamConfig struct {
	// Window is how many reports may be unacknowledged; 2048 by default.
	Window int
	// Batch is how many reports share a message at most; 512 by default, 1024 at most.
	Batch int
	// OnRefused is called for every report that the cluster refuses, and must not call the stream;
	// nil ignores them.
	OnRefused func(*conclavev1.LoadReport, *conclavev1.RefusedReport)
}

// ReportStream reports for many media handlers on one stream. When the stream breaks it goes on
// at the next replica, with what was not acknowledged: every report is acknowledged or refused, or
// Run has ended. It is safe for concurrent use.
type ReportStream struct {
	cluster *Cluster
	cfg     ReportStreamConfig
	session uint64
	added   chan struct{} // there is more to send
	changed chan struct{} // closed and replaced when reports are decided

	mu     sync.Mutex
	window []*conclavev1.LoadReport // not acknowledged, in the order of their numbers
	sent   int                      // how many of them went out on this stream
	counts ReportCounts
}

// ReportCounts is what became of a stream's reports.
type ReportCounts struct {
	// Reported were given to Report; Acknowledged and Refused are decided, the others are not.
	Reported, Acknowledged, Refused uint64
	// Resent went out again, on another stream. Streams were opened.
	Resent, Streams uint64
	// Index is the highest Raft index that an acknowledgement named.
	Index uint64
}

// NewReportStream makes a stream; Run opens it.
func NewReportStream(cluster *Cluster, cfg ReportStreamConfig) *ReportStream {
	if cfg.Window <= 0 {
		cfg.Window = 2048
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 512
	}
	if cfg.OnRefused == nil {
		cfg.OnRefused = func(*conclavev1.LoadReport, *conclavev1.RefusedReport) {}
	}
	return &ReportStream{
		cluster: cluster, cfg: cfg, session: rand.Uint64() | 1,
		added: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// Counts returns what has become of the reports so far.
func (s *ReportStream) Counts() ReportCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

// Report numbers a report and has it sent; the report must not be changed any more. It waits while
// the window is full, and fails only when ctx ends.
func (s *ReportStream) Report(ctx context.Context, report *conclavev1.LoadReport) error {
	if err := s.wait(ctx, func() bool { return len(s.window) < s.cfg.Window }); err != nil {
		return fmt.Errorf("waiting to report for %s: %w", report.GetHandlerId(), err)
	}
	defer s.mu.Unlock()
	s.counts.Reported++
	report.Sequence = s.counts.Reported
	s.window = append(s.window, report)
	select {
	case s.added <- struct{}{}:
	default:
	}
	return nil
}

// Flush waits until every report is acknowledged or refused.
func (s *ReportStream) Flush(ctx context.Context) error {
	if err := s.wait(ctx, func() bool { return len(s.window) == 0 }); err != nil {
		return fmt.Errorf("waiting for acknowledgements: %w", err)
	}
	s.mu.Unlock()
	return nil
}

// wait returns with s.mu locked once the condition holds, or with an error and unlocked.
func (s *ReportStream) wait(ctx context.Context, condition func() bool) error {
	for {
		s.mu.Lock()
		if condition() {
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Run keeps a stream open until ctx ends, at one replica after another. It fails for what another
// replica would say as well.
func (s *ReportStream) Run(ctx context.Context) error {
	for failed := 0; ; failed++ {
		before := s.Counts()
		err := s.stream(ctx, s.cluster.Next())
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, io.EOF) && !retryable(err):
			return fmt.Errorf("stream of load reports: %w", err)
		}
		if after := s.Counts(); after.Acknowledged != before.Acknowledged {
			failed = 0
		}
		// The first failure is the replica's: the next one may well answer.
		if failed > 0 {
			pause(ctx, retryDelay(failed-len(s.cluster.conns)))
		}
	}
}

// stream reports to one replica until that fails.
func (s *ReportStream) stream(ctx context.Context, replica grpc.ClientConnInterface) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conclavev1.NewRegistryServiceClient(replica).ReportLoad(ctx)
	if err != nil {
		return err
	}
	s.begin()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel()
	tasks.Go(func() { s.send(ctx, stream) })
	tasks.Go(func() { s.watch(ctx, cancel) })
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		s.decided(answer)
	}
}

// begin has everything that is not acknowledged sent on a new stream.
func (s *ReportStream) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Streams++
	s.counts.Resent += uint64(s.sent)
	s.sent = 0
}

type reportSender = grpc.BidiStreamingClient[conclavev1.ReportLoadRequest, conclavev1.ReportLoadResponse]

// send sends until the stream fails: the receiver is told why.
func (s *ReportStream) send(ctx context.Context, stream reportSender) {
	for {
		if reports := s.next(); len(reports) > 0 {
			if stream.Send(&conclavev1.ReportLoadRequest{Session: s.session, Reports: reports}) != nil {
				return
			}
			continue
		}
		select {
		case <-s.added:
		case <-ctx.Done():
			return
		}
	}
}

// next takes what the next message carries.
func (s *ReportStream) next() []*conclavev1.LoadReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	reports := s.window[s.sent:min(len(s.window), s.sent+s.cfg.Batch)]
	s.sent += len(reports)
	return slices.Clone(reports)
}

// watch gives a replica up that leaves reports unanswered for a whole call's time.
func (s *ReportStream) watch(ctx context.Context, giveUp func()) {
	var before ReportCounts
	for waited := false; pause(ctx, s.cluster.callTimeout); {
		s.mu.Lock()
		now, waiting := s.counts, s.sent > 0
		s.mu.Unlock()
		if waited && waiting && now.decided() == before.decided() {
			giveUp()
			return
		}
		before, waited = now, waiting
	}
}

func (c ReportCounts) decided() uint64 { return c.Acknowledged + c.Refused }

// decided takes the reports that an answer is for out of the window.
func (s *ReportStream) decided(answer *conclavev1.ReportLoadResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := answer.GetRefused()
	done := 0
	for done < s.sent && s.window[done].GetSequence() <= answer.GetAcknowledgedThrough() {
		report := s.window[done]
		done++
		if len(refused) > 0 && refused[0].GetSequence() == report.GetSequence() {
			s.cfg.OnRefused(report, refused[0])
			refused = refused[1:]
			s.counts.Refused++
			continue
		}
		s.counts.Acknowledged++
	}
	s.window = slices.Delete(s.window, 0, done)
	s.sent -= done
	s.counts.Index = max(s.counts.Index, answer.GetIndex())
	close(s.changed)
	s.changed = make(chan struct{})
}
