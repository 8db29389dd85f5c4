package replica

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// What is acknowledged at one replica is read at every other, at once.
func TestReadsAreLinearizable(t *testing.T) {
	c := shared(t)
	c.addRegion(t, "linear")
	for i := range 30 {
		writer, meeting := c.members[i%3], fmt.Sprint("m-", i)
		a := writer.join(t, "linear", meeting).Assignment
		for _, m := range c.members {
			if live := m.live(t, "linear", meeting); live == nil || !sameAssignment(live, a) {
				t.Fatalf("%s, after the join at %s: %v, want %v", m.id(), writer.id(), live, a)
			}
		}
		writer.end(t, "linear", meeting, a.FencingToken)
		for _, m := range c.members {
			if live := m.live(t, "linear", meeting); live != nil {
				t.Fatalf("%s, after the end at %s: %v", m.id(), writer.id(), live)
			}
		}
		h := mh{id: "linear-mh-1", region: "linear", max: 1000, used: uint32(i + 1)}
		h.report(t, writer)
		for _, m := range c.members {
			if got := m.handler(t, h.id); got.CurrentStreams != h.used {
				t.Fatalf("%s, after the report at %s: %d streams, want %d", m.id(), writer.id(), got.CurrentStreams, h.used)
			}
		}
	}
}

// Every answer says which replica and which index it reflects; with that index a client reads
// its own write at any other replica, without asking the leader.
func TestReadYourOwnWrite(t *testing.T) {
	c := shared(t)
	c.addRegion(t, "own")
	for i, m := range append(c.followers(t), c.leader(t)) {
		meeting := fmt.Sprint("m-", i)
		var header metadata.MD
		_, err := m.gateway().AssignMeeting(t.Context(), &conclavev1.AssignMeetingRequest{MeetingId: meeting, Region: "own"}, grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		index := indexOf(t, header)
		// The leader answers what a follower forwards.
		if node := header.Get("conclave-node"); !slices.Equal(node, []string{c.leader(t).id()}) {
			t.Errorf("joined at %s: conclave-node is %v, want the leader", m.id(), node)
		}
		for _, other := range c.members {
			var header metadata.MD
			answer, err := other.gateway().GetAssignment(t.Context(), &conclavev1.GetAssignmentRequest{
				MeetingId: meeting, Region: "own", Consistency: conclavev1.Consistency_STALE, MinIndex: index}, grpc.Header(&header))
			if err != nil || answer.Index < index {
				t.Fatalf("%s with min_index %d: %v, %v", other.id(), index, answer, err)
			}
			if node := header.Get("conclave-node"); !slices.Equal(node, []string{other.id()}) || indexOf(t, header) != answer.Index {
				t.Errorf("a stale read at %s reflects %v, its index is %d", other.id(), header, answer.Index)
			}
		}
	}
	// Reports share entries, and still each is answered with the index of its own.
	for _, m := range c.members {
		var header metadata.MD
		_, err := m.handlers().SendLoadReport(t.Context(), &darktowerv1.SendLoadReportRequest{
			HandlerId: "own-mh-1", Health: darktowerv1.HealthStatus_HEALTHY, CurrentStreams: 5}, grpc.Header(&header))
		if err != nil {
			t.Fatal(err)
		}
		if indexOf(t, header) == 0 {
			t.Errorf("a report at %s reflects no index: %v", m.id(), header)
		}
	}
}

func indexOf(t *testing.T, header metadata.MD) uint64 {
	t.Helper()
	values := header.Get("conclave-index")
	if len(values) != 1 {
		t.Fatalf("conclave-index is %v, want one value", values)
	}
	index, err := strconv.ParseUint(values[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

// min_index waits for an index that is not there yet, and no longer than the caller does.
func TestMinIndexWaits(t *testing.T) {
	c := shared(t)
	c.addRegion(t, "waits")
	m := c.follower(t)
	a := m.join(t, "waits", "m").Assignment
	next := m.status(t).AppliedIndex + 20
	answered := make(chan error, 1)
	go func() {
		answer, err := m.gateway().GetAssignment(t.Context(), &conclavev1.GetAssignmentRequest{
			MeetingId: "m", Region: "waits", Consistency: conclavev1.Consistency_STALE, MinIndex: next})
		if err == nil && (answer.Index < next || !sameAssignment(answer.Assignment, a)) {
			err = fmt.Errorf("got %v, want an index of at least %d", answer, next)
		}
		answered <- err
	}()
	for m.status(t).AppliedIndex < next {
		select {
		case err := <-answered:
			if applied := m.status(t).AppliedIndex; applied < next {
				t.Fatalf("answered before index %d was applied (it is at %d): %v", next, applied, err)
			}
			answered <- err
		default:
			mh{id: "waits-mh-1", region: "waits"}.report(t, m)
		}
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := m.gateway().GetAssignment(ctx, &conclavev1.GetAssignmentRequest{MeetingId: "m", Region: "waits", MinIndex: 1 << 40})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("an index that never comes: %v", err)
	}
}

func TestListAssignments(t *testing.T) {
	c := shared(t)
	c.addRegion(t, "list-a")
	c.addRegion(t, "list-b")
	var want []string
	for i := range 25 {
		meeting := fmt.Sprintf("m-%02d", i)
		a := c.members[i%3].join(t, "list-a", meeting).Assignment
		if i%5 == 0 {
			c.members[i%3].end(t, "list-a", meeting, a.FencingToken)
		} else {
			want = append(want, meeting)
		}
	}
	c.members[0].join(t, "list-b", "m-00")
	for _, m := range c.members {
		for _, size := range []uint32{0, 1, 7, 20, 1000} {
			got := listMeetings(t, m, &conclavev1.ListAssignmentsRequest{Region: "list-a", PageSize: size})
			if !slices.Equal(got, want) {
				t.Errorf("%s by %d: %v, want %v", m.id(), size, got, want)
			}
		}
		if got := listMeetings(t, m, &conclavev1.ListAssignmentsRequest{McId: "list-a-mc", PageSize: 3}); !slices.Equal(got, want) {
			t.Errorf("%s by controller: %v, want %v", m.id(), got, want)
		}
		if got := listMeetings(t, m, &conclavev1.ListAssignmentsRequest{Region: "list-b", McId: "list-a-mc"}); got != nil {
			t.Errorf("%s by a controller of another region: %v", m.id(), got)
		}
		if got := listMeetings(t, m, &conclavev1.ListAssignmentsRequest{Region: "list-a", IncludeEnded: true, PageSize: 4}); len(got) != 25 || !slices.IsSorted(got) {
			t.Errorf("%s with ended ones: %v, want all 25 in order", m.id(), got)
		}
	}
}

// listMeetings follows the pages, each at another replica than the one before if need be.
func listMeetings(t *testing.T, m *member, req *conclavev1.ListAssignmentsRequest) (meetings []string) {
	t.Helper()
	for {
		page, err := m.gateway().ListAssignments(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if page.Index == 0 || (req.PageSize > 0 && len(page.Assignments) > int(req.PageSize)) {
			t.Errorf("a page of %d, asked for %d, at index %d", len(page.Assignments), req.PageSize, page.Index)
		}
		for _, a := range page.Assignments {
			meetings = append(meetings, a.MeetingId)
		}
		if req.PageToken = page.NextPageToken; req.PageToken == "" {
			return meetings
		}
	}
}

func TestListNodes(t *testing.T) {
	c := shared(t)
	var want []string
	for i := range 12 {
		id := fmt.Sprintf("nodes-%02d", i)
		c.addMH(t, mh{id: id, region: "nodes"})
		c.registerMC(t, id, "nodes", "http://127.0.0.1:1")
		want = append(want, id)
	}
	for _, m := range c.members {
		var handlers, controllers []string
		token := ""
		for done := false; !done; done = token == "" {
			page, err := m.registryOf().ListMediaHandlers(t.Context(), &conclavev1.ListMediaHandlersRequest{Region: "nodes", PageSize: 5, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range page.MediaHandlers {
				handlers = append(handlers, h.HandlerId)
			}
			token = page.NextPageToken
		}
		for done := false; !done; done = token == "" {
			page, err := m.registryOf().ListMeetingControllers(t.Context(), &conclavev1.ListMeetingControllersRequest{Region: "nodes", PageSize: 4, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range page.MeetingControllers {
				controllers = append(controllers, h.Id)
			}
			token = page.NextPageToken
		}
		if !slices.Equal(handlers, want) || !slices.Equal(controllers, want) {
			t.Errorf("%s lists %v and %v, want %v", m.id(), handlers, controllers, want)
		}
	}
}

// Every replica describes the same cluster; at the same index they have the same state.
func TestStatus(t *testing.T) {
	c := shared(t)
	eventually(t, "all replicas are at the same index with the same hash", func() error {
		var all []*conclavev1.GetStatusResponse
		for _, m := range c.members {
			all = append(all, m.status(t))
		}
		for _, s := range all {
			if s.AppliedIndex != all[0].AppliedIndex {
				return fmt.Errorf("%s is at %d, %s at %d", s.NodeId, s.AppliedIndex, all[0].NodeId, all[0].AppliedIndex)
			}
			if s.StateHash != all[0].StateHash || len(s.StateHash) != 32 {
				t.Fatalf("at index %d %s has hash %s, %s has %s", s.AppliedIndex, s.NodeId, s.StateHash, all[0].NodeId, all[0].StateHash)
			}
		}
		return nil
	})
	leader := c.leader(t).id()
	for _, m := range c.members {
		s := m.status(t)
		if s.NodeId != m.id() || s.LeaderId != leader || s.Term == 0 || s.CommitIndex < s.AppliedIndex || s.Version != "test" {
			t.Errorf("%s describes itself as %v", m.id(), s)
		}
		if len(s.Members) != len(c.members) {
			t.Fatalf("%s knows the members %v", m.id(), s.Members)
		}
		for i, described := range s.Members {
			other := c.members[i]
			if described.Id != other.id() || described.GrpcAddress != other.addrs[0] || described.RaftAddress != other.addrs[1] ||
				described.Suffrage != "voter" || !described.Reachable {
				t.Errorf("%s describes %s as %v", m.id(), other.id(), described)
			}
		}
	}
}

// The counts of the status are those of the lists.
func TestStatusCounts(t *testing.T) {
	c := startCluster(t, 1)
	c.addRegion(t, "counts")
	m := c.leader(t)
	a := m.join(t, "counts", "one").Assignment
	m.join(t, "counts", "two")
	if s := m.status(t); s.MediaHandlers != 2 || s.MeetingControllers != 1 || s.LiveAssignments != 2 {
		t.Errorf("status %v, want 2 media handlers, 1 controller, 2 meetings", s)
	}
	m.end(t, "counts", "one", a.FencingToken)
	if s := m.status(t); s.LiveAssignments != 1 {
		t.Errorf("status %v, want 1 meeting", s)
	}
	if err := m.replica.node.HandOver(t.Context()); err != nil {
		t.Errorf("a replica alone has nobody to hand over to: %v", err)
	}
}
