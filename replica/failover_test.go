package replica

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// sameState waits until all running replicas are at one index, and compares their hashes there.
func (c *testCluster) sameState(t *testing.T) {
	t.Helper()
	eventually(t, "all replicas are at the same index", func() error {
		first := c.up()[0].status(t)
		for _, m := range c.up()[1:] {
			s := m.status(t)
			if s.AppliedIndex != first.AppliedIndex {
				return fmt.Errorf("%s is at %d, %s at %d", s.NodeId, s.AppliedIndex, first.NodeId, first.AppliedIndex)
			}
			if s.StateHash != first.StateHash {
				t.Fatalf("at index %d %s has hash %s, %s has %s", s.AppliedIndex, s.NodeId, s.StateHash, first.NodeId, first.StateHash)
			}
		}
		return nil
	})
}

// Leaders crash in the middle of joins, one after the other, and come back: everything that was
// acknowledged is there, everywhere, once.
func TestLeadersCrashDuringJoins(t *testing.T) {
	t.Parallel()
	for _, store := range []raftnode.LogStoreKind{raftnode.LogStoreBolt, raftnode.LogStoreWAL} {
		t.Run(string(store), func(t *testing.T) {
			t.Parallel()
			c := startCluster(t, 3, func(config *Config) { config.LogStore = store })
			mc := c.addRegion(t, "s")
			var acknowledged sync.Map // meeting to assignment
			var joins atomic.Int64
			stop := make(chan struct{})
			var wg sync.WaitGroup
			for caller := range 6 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						meeting := fmt.Sprintf("m-%d-%d", caller, i)
						answer, err := c.members[(caller+i)%3].tryJoin(t.Context(), "s", meeting)
						if err == nil {
							// Nobody else joins it: whichever attempt made it was of this call.
							if !answer.Created {
								t.Errorf("the join of the new meeting %s found it there", meeting)
							}
							acknowledged.Store(meeting, answer.Assignment)
							joins.Add(1)
						}
					}
				})
			}
			for range 2 {
				before := joins.Load()
				enough := func() error {
					if n := joins.Load() - before; n < 50 {
						return fmt.Errorf("%d joins", n)
					}
					return nil
				}
				eventually(t, "some joins work", enough)
				crashed := c.leader(t)
				crashed.kill()
				before = joins.Load()
				eventually(t, "joins work without it", enough)
				crashed.restart(t)
				c.waitReady(t)
			}
			close(stop)
			wg.Wait()
			c.sameState(t)
			heartbeat(t, mc) // drops what nobody knows of
			acknowledged.Range(func(meeting, a any) bool {
				for _, m := range c.members {
					if live := m.live(t, "s", meeting.(string)); live == nil || !sameAssignment(live, a.(*conclavev1.Assignment)) {
						t.Errorf("%s says %v of %s, acknowledged was %v", m.id(), live, meeting, a)
					}
				}
				if !hosts(mc, a.(*conclavev1.Assignment)) {
					t.Errorf("the controller does not host %v", a)
				}
				return !t.Failed()
			})
			// What it hosts and what is assigned is the same, to the last meeting.
			if live, hosted := c.leader(t).status(t).LiveAssignments, len(mc.Hosted()); live != uint64(hosted) {
				t.Errorf("%d are assigned, the controller hosts %d", live, hosted)
			}
		})
	}
}

// An operator's stop hands the leadership over: joins go on as if nothing were.
func TestStoppedLeaderHandsOver(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.addRegion(t, "s")
	a := c.leader(t).join(t, "s", "m").Assignment
	at := c.follower(t)
	c.leader(t).stop(t)
	if again := at.join(t, "s", "m"); again.Created || !sameAssignment(again.Assignment, a) {
		t.Errorf("after the hand-over: %v, want %v", again, a)
	}
	if fresh := at.join(t, "s", "new").Assignment; fresh.FencingToken>>40 <= a.FencingToken>>40 {
		t.Errorf("the new leader's token %d is not of a later term than %d", fresh.FencingToken, a.FencingToken)
	}
}

// A replica that was away catches up by the log, or by a snapshot when the log has gone on.
func TestReplicaCatchesUp(t *testing.T) {
	t.Parallel()
	const byLog, bySnapshot = 10, 400
	c := startCluster(t, 3, func(config *Config) {
		// The other store still finds what it has trimmed, while it lies in the file that it
		// writes to: a leader then needs no snapshot.
		config.LogStore = raftnode.LogStoreBolt
		config.Retention = raftnode.Retention{SnapshotThreshold: 100, SnapshotInterval: 100 * time.Millisecond, TrailingLogs: 20}
	})
	c.addRegion(t, "s")
	for name, missed := range map[string]int{"by log": byLog, "by snapshot": bySnapshot} {
		away := c.follower(t)
		has := away.status(t).AppliedIndex
		away.kill()
		for i := range missed {
			a := c.leader(t).join(t, "s", fmt.Sprint(missed, "-", i)).Assignment
			if i%3 == 0 {
				c.leader(t).end(t, "s", a.MeetingId, a.FencingToken)
			}
		}
		if missed == bySnapshot {
			installed := c.logs.count("Installed remote snapshot")
			eventually(t, "the leader has trimmed its log", func() error {
				if to := c.logs.trimmedTo(c.leader(t).id()); to <= has {
					return fmt.Errorf("it is trimmed to %d, %s has %d", to, away.id(), has)
				}
				return nil
			})
			away.restart(t)
			eventually(t, name, func() error {
				if c.logs.count("Installed remote snapshot") == installed {
					return errors.New("none was installed")
				}
				return nil
			})
		} else {
			away.restart(t)
		}
		c.waitReady(t)
		c.sameState(t)
		want := fmt.Sprint(missed, "-", missed-2)
		if live := away.live(t, "s", want); live == nil {
			t.Errorf("%s: %s does not know %s", name, away.id(), want)
		}
	}
	// From disk alone, all at once.
	for _, m := range c.members {
		m.kill()
	}
	for _, m := range c.members {
		m.restart(t)
	}
	c.waitReady(t)
	c.sameState(t)
	if live := c.leader(t).status(t).LiveAssignments; live != (byLog-4)+(bySnapshot-134) {
		t.Errorf("%d are live after all replicas restarted", live)
	}
}

func (b *logBuffer) count(text string) int { return strings.Count(b.String(), text) }

// trimmedTo is how far a replica says that it has trimmed its log.
func (b *logBuffer) trimmedTo(id string) (to uint64) {
	for _, line := range regexp.MustCompile(`compacting logs: gc=`+id+` from=\d+ to=(\d+)`).FindAllStringSubmatch(b.String(), -1) {
		index, _ := strconv.ParseUint(line[1], 10, 64) // digits only
		to = max(to, index)
	}
	return to
}

// A controller that hosts what no log knows is told to drop it, once it is certain: with a token
// of an older term, and of this term when nothing is in flight.
func TestHeartbeatNamesWhatMustBeDropped(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	mc := c.addRegion(t, "s")
	mine := c.follower(t).join(t, "s", "mine").Assignment
	c.leader(t).kill()
	fresh := c.leader(t).join(t, "s", "fresh").Assignment
	term := fresh.FencingToken >> 40
	hosted := func(meeting string, token uint64) *darktowerv1.HostedMeeting {
		return &darktowerv1.HostedMeeting{MeetingId: meeting, Region: "s", FencingToken: token}
	}
	keep := []*darktowerv1.HostedMeeting{
		hosted("mine", mine.FencingToken),
		hosted("fresh", fresh.FencingToken),
		hosted("of-a-later-term", (term+1)<<40|1), // not this leader's to judge
		hosted("of-no-token", 0),                  // an older controller
	}
	drop := []*darktowerv1.HostedMeeting{
		hosted("of-an-older-term", (term-1)<<40|999),
		hosted("of-this-term", term<<40|999),
		hosted("mine", mine.FencingToken-1),
	}
	for _, m := range c.up() {
		answer, err := m.controllers().ComprehensiveHeartbeat(t.Context(), &darktowerv1.ComprehensiveHeartbeatRequest{
			ControllerId: mc.ID(), Health: darktowerv1.HealthStatus_HEALTHY, Hosted: append(keep, drop...)})
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(answer.Release) != fmt.Sprint(drop) {
			t.Errorf("%s tells it to release %v, want %v", m.id(), answer.Release, drop)
		}
	}
	// What another controller hosts is not its own either.
	other := c.addMC(t, "other", "s")
	answer, err := c.follower(t).controllers().ComprehensiveHeartbeat(t.Context(), &darktowerv1.ComprehensiveHeartbeatRequest{
		ControllerId: other.ID(), Health: darktowerv1.HealthStatus_HEALTHY, Hosted: keep[:1]})
	if err != nil || len(answer.Release) != 1 {
		t.Errorf("another controller that claims %v is told %v, %v", keep[0], answer, err)
	}
}

// A leader that dies between acceptance and commit leaves no trace but the controller's own
// list: its next heartbeat tells it to drop the orphan.
func TestLeaderDiesBetweenAcceptanceAndCommit(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	c.addMH(t, mh{id: "mh", region: "s"})
	dying := c.leader(t)
	var link *link
	died := make(chan struct{})
	mc := c.addMC(t, "mc", "s", scripted(func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		link.cut() // a dead leader says nothing any more, releases included
		dying.kill()
		close(died)
		return sim.Accept()
	}))
	link = newLink(t, strings.TrimPrefix(mc.Endpoint(), "http://"))
	c.registerMC(t, "mc", "s", "http://"+link.Addr().String())

	if _, err := dying.tryJoin(t.Context(), "s", "m"); err == nil {
		t.Error("the leader died before it could commit, and still it answered")
	}
	<-died
	eventually(t, "the controller hosts the orphan", func() error {
		if len(mc.Hosted()) != 1 {
			return fmt.Errorf("it hosts %v", mc.Hosted())
		}
		return nil
	})
	if live := c.leader(t).live(t, "s", "m"); live != nil {
		t.Fatalf("nothing was committed, but there is %v", live)
	}
	heartbeat(t, mc)
	notHosting(t, mc, "s", "m")
	if dropped := eventsOf(mc, sim.EventDrop, "m"); len(dropped) != 1 || dropped[0].Outcome != sim.OutcomeReleased {
		t.Errorf("it dropped %+v, want the orphan", dropped)
	}
}

// link is a TCP connection to somewhere that can be cut for good.
type link struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{Listener: l}
	t.Cleanup(k.cut)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return // cut
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			k.mu.Lock()
			k.conns = append(k.conns, in, out)
			k.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				go func() { _, _ = io.Copy(way[0], way[1]) }() // ends when it is cut
			}
		}
	}()
	return k
}

func (k *link) cut() {
	_ = k.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.conns {
		_ = conn.Close()
	}
}
