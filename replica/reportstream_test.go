package replica

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	replicav1 "github.com/conclave-rtc/conclave/proto/replica/v1"
)

// reports is a stream of load reports to one replica.
type reports struct {
	grpc.BidiStreamingClient[conclavev1.ReportLoadRequest, conclavev1.ReportLoadResponse]
	session uint64
	through uint64 // acknowledged so far
	index   uint64 // of the last answer that named one
}

func (m *member) reports(t *testing.T, session uint64) *reports {
	t.Helper()
	stream, err := m.registryOf().ReportLoad(t.Context())
	if err != nil {
		t.Fatalf("opening a stream to %s: %v", m.id(), err)
	}
	return &reports{BidiStreamingClient: stream, session: session}
}

func streamed(sequence uint64, id string, streams uint32) *conclavev1.LoadReport {
	return &conclavev1.LoadReport{
		Sequence: sequence, HandlerId: id, CurrentStreams: streams, Health: darktowerv1.HealthStatus_HEALTHY,
	}
}

func (r *reports) send(t *testing.T, list ...*conclavev1.LoadReport) {
	t.Helper()
	if err := r.Send(&conclavev1.ReportLoadRequest{Session: r.session, Reports: list}); err != nil {
		t.Fatalf("sending reports: %v", err)
	}
}

// until reads answers until the reports up to a number are decided, and returns the refused ones.
func (r *reports) until(t *testing.T, through uint64) []*conclavev1.RefusedReport {
	t.Helper()
	var refused []*conclavev1.RefusedReport
	for r.through < through {
		answer, err := r.Recv()
		if err != nil {
			t.Fatalf("waiting for the answer to %d: %v", through, err)
		}
		if answer.AcknowledgedThrough <= r.through {
			t.Fatalf("acknowledged %d after %d", answer.AcknowledgedThrough, r.through)
		}
		r.through = answer.AcknowledgedThrough
		r.index = max(r.index, answer.Index)
		refused = append(refused, answer.Refused...)
	}
	if r.through > through {
		t.Fatalf("acknowledged through %d, sent was %d", r.through, through)
	}
	return refused
}

// streamFleet registers handlers that have not reported yet.
func (c *testCluster) streamFleet(t *testing.T, prefix string, size int) []string {
	t.Helper()
	ids := make([]string, size)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", prefix, i)
		mh{id: ids[i], region: prefix, max: 1000}.register(t, c.up()[0])
	}
	return ids
}

// reportsCounted is how many load reports the replica's metrics count.
func (m *member) reportsCounted(t *testing.T, outcome string) int {
	t.Helper()
	return m.counter(t, fmt.Sprintf("gc_load_reports_total{outcome=%q}", outcome))
}

// counter is what a metric counts; 0 when it is not there yet.
func (m *member) counter(t *testing.T, metric string) int {
	t.Helper()
	_, page := m.get(t, "/metrics")
	_, after, _ := strings.Cut(page, "\n"+metric+" ")
	var count float64
	_, _ = fmt.Sscan(after, &count)
	return int(count)
}

// Whatever is acknowledged is in the state, at every replica, whichever replica the stream is with.
func TestStreamedReports(t *testing.T) {
	c := shared(t)
	for name, at := range map[string]*member{"leader": c.leader(t), "follower": c.follower(t)} {
		t.Run(name, func(t *testing.T) {
			ids := c.streamFleet(t, "streamed-"+name, 3)
			stream := at.reports(t, 0)
			sequence, last := uint64(0), make(map[string]*conclavev1.LoadReport)
			for range 5 { // messages
				var message []*conclavev1.LoadReport
				for i := range 700 { // more than one commit takes
					sequence += 2 // numbers may be left out
					report := streamed(sequence, ids[i%3], uint32(sequence%1000))
					report.CpuUsagePercent, report.MemoryUsagePercent, report.BandwidthUsagePercent = 1, 2, 3
					last[report.HandlerId] = report
					message = append(message, report)
				}
				stream.send(t, message...)
			}
			if refused := stream.until(t, sequence); len(refused) > 0 {
				t.Errorf("refused: %v", refused)
			}
			for _, m := range c.members {
				for _, id := range ids {
					want, got := last[id], m.handler(t, id)
					if got.CurrentStreams != want.CurrentStreams || got.Health != want.Health || got.CpuUsagePercent != 1 ||
						got.MemoryUsagePercent != 2 || got.BandwidthUsagePercent != 3 {
						t.Errorf("%s says %v, the last report is %v", m.id(), got, want)
					}
				}
			}
			if applied := c.leader(t).status(t).AppliedIndex; stream.index == 0 || stream.index > applied {
				t.Errorf("acknowledged with index %d, applied is %d", stream.index, applied)
			}
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if answer, err := stream.Recv(); err == nil || err.Error() != "EOF" {
				t.Errorf("after the end: %v, %v", answer, err)
			}
		})
	}
}

// A refused report is named, with the reason that a call of its own would be given, and touches
// no other.
func TestStreamedReportsAreRefusedOneByOne(t *testing.T) {
	c := shared(t)
	for name, at := range map[string]*member{"leader": c.leader(t), "follower": c.follower(t)} {
		t.Run(name, func(t *testing.T) {
			id := c.streamFleet(t, "refused-"+name, 1)[0]
			bad := func(sequence uint64, spoil func(*conclavev1.LoadReport)) *conclavev1.LoadReport {
				r := streamed(sequence, id, 99)
				spoil(r)
				return r
			}
			before := make(map[string]int)
			for _, outcome := range []string{"invalid", "not_registered", "acknowledged"} {
				before[outcome] = at.reportsCounted(t, outcome)
			}
			stream := at.reports(t, 0)
			stream.send(t,
				bad(1, func(r *conclavev1.LoadReport) { r.HandlerId = "a b" }),
				streamed(2, id, 2),
				streamed(3, "refused-stranger", 3),
				bad(4, func(r *conclavev1.LoadReport) { r.CpuUsagePercent = 101 }),
				bad(5, func(r *conclavev1.LoadReport) { r.Health = 9 }),
				streamed(6, id, 6),
				bad(7, func(r *conclavev1.LoadReport) { r.HandlerId = "" }),
			)
			refused := stream.until(t, 7)
			stream.send(t, bad(8, func(r *conclavev1.LoadReport) { r.MemoryUsagePercent = -1 }))
			refused = append(refused, stream.until(t, 8)...)
			stream.send(t, streamed(9, id, 9))
			refused = append(refused, stream.until(t, 9)...)
			var got []string
			for _, r := range refused {
				field, _, _ := strings.Cut(r.Message, ":")
				got = append(got, fmt.Sprintf("%d %s %s", r.Sequence, r.Reason, field))
			}
			want := []string{
				"1 INVALID_FIELD handler_id",
				`3 NOT_REGISTERED media handler "refused-stranger" is not registered`,
				"4 INVALID_FIELD cpu_usage_percent", "5 INVALID_FIELD health",
				"7 INVALID_FIELD handler_id", "8 INVALID_FIELD memory_usage_percent",
			}
			if !slices.Equal(got, want) {
				t.Errorf("refused\n%q, want\n%q", got, want)
			}
			if used := at.handler(t, id).CurrentStreams; used != 9 {
				t.Errorf("%d streams, want the 9 of the last report", used)
			}
			for outcome, want := range map[string]int{"invalid": 5, "not_registered": 1, "acknowledged": 3} {
				if got := at.reportsCounted(t, outcome) - before[outcome]; got != want {
					t.Errorf("%d reports are counted as %s, want %d", got, outcome, want)
				}
			}
		})
	}
}

// Numbers that do not rise are a mistake of the client: the stream ends, after what came before.
func TestStreamedReportsAreNumbered(t *testing.T) {
	c := shared(t)
	id := c.streamFleet(t, "numbered", 1)[0]
	many := make([]*conclavev1.LoadReport, 1025)
	for i := range many {
		many[i] = streamed(uint64(10+i), id, 99)
	}
	for name, tc := range map[string]struct {
		next  []*conclavev1.LoadReport
		field string
	}{
		"zero":        {[]*conclavev1.LoadReport{streamed(0, id, 99)}, "reports[0].sequence"},
		"repeated":    {[]*conclavev1.LoadReport{streamed(8, id, 99), streamed(8, id, 99)}, "reports[1].sequence"},
		"as before":   {[]*conclavev1.LoadReport{streamed(7, id, 99)}, "reports[0].sequence"},
		"going back":  {[]*conclavev1.LoadReport{streamed(9, id, 99), streamed(10, id, 99), streamed(9, id, 99)}, "reports[2].sequence"},
		"far too big": {many, "reports"},
	} {
		stream := c.follower(t).reports(t, 0)
		stream.send(t, streamed(7, id, 7))
		stream.until(t, 7)
		stream.send(t, tc.next...)
		_, err := stream.Recv()
		if bad := invalidField.check(err); bad != nil || fieldOf(err) != tc.field {
			t.Errorf("%s: %v, field %q; want %q", name, bad, fieldOf(err), tc.field)
		}
		if used := c.follower(t).handler(t, id).CurrentStreams; used != 7 {
			t.Errorf("%s: %d streams, want the 7 that were acknowledged", name, used)
		}
	}
}

// What is sent again is acknowledged again and has no effect, be it by the client on another
// stream or by a replica to the leader; nor has an older report that comes late.
func TestAnOlderReportNeverFollowsANewerOne(t *testing.T) {
	c := shared(t)
	id := c.streamFleet(t, "older", 1)[0]
	const session = 7
	at := c.follower(t)
	repeatedBefore := at.reportsCounted(t, "repeated")
	first, second := c.leader(t).reports(t, session), at.reports(t, session)
	first.send(t, streamed(1, id, 1), streamed(5, id, 5))
	first.until(t, 5)
	reported := c.leader(t).handler(t, id)
	second.send(t, streamed(4, id, 4), streamed(5, id, 55))
	if refused := second.until(t, 5); len(refused) > 0 {
		t.Errorf("what was sent again is refused: %v", refused)
	}
	late := &commandv1.ReportLoad{
		Kind: 1, Id: id, Health: 1, Usage: &commandv1.Usage{Used: 3}, Session: session, Sequence: 3,
	}
	answer, err := c.leader(t).forward(t, submitOf(&commandv1.Command{Op: &commandv1.Command_ReportLoad{ReportLoad: late}}))
	if err != nil || answer.GetSubmit().GetResults()[0].Outcome != replicav1.SubmitResult_OUTCOME_REPEATED {
		t.Errorf("a report that comes late: %v, %v", answer, err)
	}
	if got := c.leader(t).handler(t, id); got.CurrentStreams != 5 || got.LastReportAt.AsTime() != reported.LastReportAt.AsTime() {
		t.Errorf("it became %v, was %v", got, reported)
	}
	second.send(t, streamed(6, id, 6))
	second.until(t, 6)
	if used := c.leader(t).handler(t, id).CurrentStreams; used != 6 {
		t.Errorf("%d streams, want 6", used)
	}
	if repeated := at.reportsCounted(t, "repeated") - repeatedBefore; repeated != 2 {
		t.Errorf("%d reports are counted as repeated, want 2", repeated)
	}
	other := c.follower(t).reports(t, 0) // another client begins anew
	other.send(t, streamed(1, id, 11))
	other.until(t, 1)
	if used := c.leader(t).handler(t, id).CurrentStreams; used != 11 {
		t.Errorf("%d streams after another session's report of 11", used)
	}
}

// The room for reports that are not decided is all streams': who reads no answers must not keep it.
func TestWhoReadsNoAnswersLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, withForwardTimeout)
	id := c.streamFleet(t, "beside-the-deaf", 1)[0]
	var sent atomic.Int64
	for range 2 { // they fill it
		go c.up()[0].sendDeafly(t, &sent)
	}
	// Until they are held up: else there is nothing to be seen.
	for before := int64(-1); before < 16 || before != sent.Load(); time.Sleep(testForwardTimeout / 5) {
		before = sent.Load()
	}
	eventually(t, "a report finds room", func() error {
		stream := c.up()[0].reports(t, 1)
		stream.send(t, streamed(1, id, 1))
		_, err := stream.Recv()
		if err != nil {
			overloaded.must(t, err)
		}
		return err
	})
}

// sendDeafly sends reports, counted, and reads no answer.
func (m *member) sendDeafly(t *testing.T, sent *atomic.Int64) {
	const window = 64 << 10 // so that answers do not pile up for long where they are not read
	conn, err := grpc.NewClient("passthrough:///"+m.addrs[0], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window))
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	stream, err := conclavev1.NewRegistryServiceClient(conn).ReportLoad(t.Context())
	for sequence := uint64(1); err == nil; sent.Add(1) {
		many := make([]*conclavev1.LoadReport, 512) // what fills the room to the last
		for i := range many {
			many[i] = streamed(sequence, "nobody", 1) // refused, each with its reason: the answers are long
			sequence++
		}
		err = stream.Send(&conclavev1.ReportLoadRequest{Session: 1, Reports: many})
	}
}

// A replica that stops ends its streams, idle ones and busy ones, and their clients know that
// others go on.
func TestStoppingEndsStreams(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	id := c.streamFleet(t, "stopping", 1)[0]
	at := c.follower(t)
	ended := make(chan error, 2)
	follow := func(stream *reports) {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}
	idle, busy := at.reports(t, 0), at.reports(t, 0)
	idle.send(t, streamed(1, id, 1))
	idle.until(t, 1)
	busy.send(t, streamed(1, id, 1))
	busy.until(t, 1)
	go follow(idle)
	go follow(busy)
	sent := make(chan struct{}, 100)
	go func() { // more than can be committed
		for n := uint64(2); ; {
			many := make([]*conclavev1.LoadReport, 1000)
			for i := range many {
				many[i] = streamed(n, id, 1)
				n++
			}
			if busy.Send(&conclavev1.ReportLoadRequest{Reports: many}) != nil {
				return
			}
			select {
			case sent <- struct{}{}:
			default:
			}
		}
	}()
	for range 10 {
		<-sent
	}
	at.stop(t)
	for range 2 {
		if bad := noLeader.check(<-ended); bad != nil {
			t.Error(bad)
		}
	}
}
