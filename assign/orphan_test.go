package assign

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/raftnode"
	"github.com/conclave-rtc/conclave/sim"
)

// rival commits an assignment of the meeting to a controller, as another leader would have.
func (r *rig) rival(id, mc string) *fsm.Assignment {
	d := r.assigner.desk.Load()
	d.mu.Lock()
	d.counter++ // a token that this leadership has not drawn
	counter := d.counter
	d.mu.Unlock()
	token, err := fsm.NewToken(d.lead.Term, counter)
	if err != nil {
		r.t.Error(err)
	}
	cmd := &commandv1.Assign{
		MeetingId: id, Region: "eu", FencingToken: token, McId: mc,
		McIncarnation: r.log.node(fsm.MeetingController, mc).Incarnation,
	}
	return r.log.commit(&commandv1.Command{Op: &commandv1.Command_Assign{Assign: cmd}})[0].Assignment
}

func TestALostRaceIsAnsweredWithTheWinner(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	var winner *fsm.Assignment
	r.log.register(registration{kind: fsm.MeetingController, id: "rival"})
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		r.log.hook(nil)
		winner = r.rival("m", "rival")
		return apply(), nil
	})
	p := r.mustJoin("m")
	if p.Created || p.Assignment.Token != winner.Token || p.Assignment.MCID != "rival" {
		t.Errorf("answered %+v, want the winner %+v", p.Assignment, winner)
	}
	eventually(t, "the loser is released", func() bool {
		return r.mcs["mc-00000"].Count(sim.EventRelease, sim.OutcomeReleased) == 1 && len(r.hosts("m")) == 0
	})
	eventually(t, "the orphan is counted", func() bool {
		return counted(t, r.metrics.orphans.WithLabelValues("released")) == 1
	})
	r.expectNothingLeft()
}

// The winner's controller falls silent at once: to send joiners there would be no answer.
func TestALostRaceToAnUnhealthyControllerIsDecidedAgain(t *testing.T) {
	r := newRig(t, patient)
	r.controllers(1, nil)
	r.log.register(registration{kind: fsm.MeetingController, id: "rival"})
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		r.log.hook(nil)
		r.rival("m", "rival")
		r.log.report(fsm.MeetingController, "rival", fsm.Unhealthy, 0)
		return apply(), nil
	})
	p := r.mustJoin("m")
	if !p.Created || p.Assignment.MCID != "mc-00000" {
		t.Errorf("answered %+v", p.Assignment)
	}
	r.expectOneTuple("m", p)
	r.expectNothingLeft()
}

func TestAProposalThatWasNotMadeIsReleased(t *testing.T) {
	for _, refused := range []error{raftnode.ErrNotLeader, raftnode.ErrOverloaded} {
		t.Run(refused.Error(), func(t *testing.T) {
			r := newRig(t, patient)
			mc := r.controller("mc", nil)
			r.log.hook(func(*commandv1.Command, func() fsm.Result) (fsm.Result, error) { return fsm.Result{}, refused })
			if _, err := r.join("m"); !errors.Is(err, refused) {
				t.Errorf("error %v, want %v", err, refused)
			}
			eventually(t, "the orphan is released", func() bool { return mc.Count(sim.EventRelease, sim.OutcomeReleased) == 1 })
			r.expectNothingLeft()
		})
	}
}

// inDoubt joins while the commit is in doubt, and says so once the assigner waits for the log.
func (r *rig) inDoubt(committed bool) (answer chan error, placed chan Placement) {
	waiting := make(chan struct{})
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		defer close(waiting)
		r.log.hook(nil)
		if committed {
			apply()
		}
		return fsm.Result{}, raftnode.ErrInDoubt
	})
	answer, placed = make(chan error, 1), make(chan Placement, 1)
	go func() {
		p, err := r.join("m")
		placed <- p
		answer <- err
	}()
	<-waiting
	return answer, placed
}

func TestADoubtThatEndsWithTheCommitIsAnswered(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	answer, placed := r.inDoubt(true)
	r.log.elect() // the log decides
	p := <-placed
	if err := <-answer; err != nil || !p.Created {
		t.Fatalf("answered %+v, %v", p, err)
	}
	r.expectOneTuple("m", p)
	r.expectNothingLeft()
	if n := mc.Count(sim.EventRelease, ""); n != 0 {
		t.Errorf("%d releases of a meeting that is assigned", n)
	}
}

// A joiner does not wait for the log to decide, and is not told that nothing was done: it was.
func TestAJoinInDoubtIsToldSo(t *testing.T) {
	r := newRig(t, patient)
	r.controller("mc", nil)
	answer, _ := r.inDoubt(true)
	r.depose()
	if err := <-answer; !errors.Is(err, raftnode.ErrInDoubt) {
		t.Errorf("error %v, want ErrInDoubt", err)
	}
	r.log.elect()
}

func TestADoubtIsReleasedOnlyOnceTheLogHasDecided(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	answer, _ := r.inDoubt(false)
	token := mc.Hosted()[sim.Key{Meeting: "m", Region: "eu"}].Token
	// Entries of the same term decide nothing: the one in doubt may still come.
	r.log.report(fsm.MeetingController, "mc", fsm.Healthy, 0)
	if d := r.assigner.desk.Load(); !d.isPlacing(token) {
		t.Error("the token is taken for decided")
	}
	if drop, err := r.assigner.Reconcile("mc", []Hosted{{meeting("m"), token}}); err != nil || len(drop) != 0 {
		t.Errorf("a heartbeat is told to drop %v, %v", drop, err)
	}
	select {
	case err := <-answer:
		t.Fatalf("answered %v before the log decided", err)
	default:
	}
	if n := mc.Count(sim.EventRelease, ""); n != 0 {
		t.Errorf("%d releases before the log decided", n)
	}
	r.log.elect()
	if err := <-answer; !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("error %v, want ErrNotLeader", err)
	}
	eventually(t, "the orphan is released", func() bool { return mc.Count(sim.EventRelease, sim.OutcomeReleased) == 1 })
	r.expectNothingLeft()
}

// undecided is a log that can no longer say what became of an entry.
type undecided struct{ *fakeLog }

func (undecided) WaitDecided(context.Context, uint64) error { return errors.New("the log is closed") }

func TestADoubtThatStaysIsNotReleased(t *testing.T) {
	r := newRig(t, patient)
	mc := r.controller("mc", nil)
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		apply()
		return fsm.Result{}, raftnode.ErrInDoubt
	})
	d := newDesk(r.assigner, undecided{r.log}, r.assigner.desk.Load().lead)
	if _, err := d.place(Joining{Key: meeting("m")}); !errors.Is(err, raftnode.ErrInDoubt) {
		t.Errorf("error %v, want ErrInDoubt", err)
	}
	live := r.log.live(meeting("m"))
	if !d.isPlacing(live.Token) {
		t.Error("the token is taken for decided")
	}
	// A release would be under way by now, and would get through before this call returns.
	r.eventuallyReachable(live)
	if n := len(r.assigner.releases); n != 0 || mc.Hosted()[sim.Key{Meeting: "m", Region: "eu"}].Token != live.Token {
		t.Errorf("an assignment that may be committed is being released (%d releases)", n)
	}
}

// No answer is no refusal: what timed out may have been accepted.
func TestAnAcceptanceWhoseAnswerIsLostIsReleased(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	r.controllers(4, sim.Cycle(sim.AcceptThenHang(), sim.Accept()))
	p := r.mustJoin("m")
	r.expectOneTuple("m", p)
	r.expectNothingLeft()
	releases := r.events(sim.EventRelease)
	if len(releases) != 1 || releases[0].Outcome != sim.OutcomeReleased || releases[0].Token >= p.Assignment.Token {
		t.Errorf("releases %+v", releases)
	}
}

// A release can overtake the notification that it takes back.
func TestAControllerThatAcceptsTooLateIsToldByItsHeartbeat(t *testing.T) {
	t.Parallel()
	r := newRig(t, impatient)
	mc := r.controller("mc", sim.Always(sim.Hang()))
	if _, err := r.join("m"); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("error %v, want ErrUnreachable", err)
	}
	eventually(t, "the release", func() bool { return mc.Count(sim.EventRelease, sim.OutcomeNotHosted) == 1 })
	late := Hosted{meeting("m"), r.events(sim.EventAssign)[0].Token}
	if drop, err := r.assigner.Reconcile("mc", []Hosted{late}); err != nil || len(drop) != 1 || drop[0] != late {
		t.Errorf("its heartbeat is told to drop %v, %v", drop, err)
	}
}

func TestTheEndOfTheLeadershipIsNotTheControllersFault(t *testing.T) {
	r := newRig(t, patient)
	called := make(chan struct{})
	mc := r.controller("mc", func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		close(called)
		return sim.AcceptThenHang()
	})
	answer := make(chan error, 1)
	go func() {
		_, err := r.join("m")
		answer <- err
	}()
	<-called
	r.depose()
	if err := <-answer; !errors.Is(err, raftnode.ErrInDoubt) && !errors.Is(err, raftnode.ErrNotLeader) {
		t.Errorf("error %v, want one that has the caller look for the leader", err)
	}
	eventually(t, "the acceptance is released", func() bool { return len(r.hosts("m")) == 0 && mc.Count(sim.EventRelease, "") > 0 })
	mc.SetScript(nil)
	r.lead()
	r.expectOneTuple("m", r.mustJoin("m")) // it was not set aside
}

// bareController answers as a test says, without any of a controller's rules.
type bareController struct {
	darktowerv1.UnimplementedMeetingControllerServiceServer
	releases atomic.Int32
	release  func() error
}

func (b *bareController) ReleaseMeeting(context.Context, *darktowerv1.ReleaseMeetingRequest) (*darktowerv1.ReleaseMeetingResponse, error) {
	b.releases.Add(1)
	return &darktowerv1.ReleaseMeetingResponse{}, b.release()
}

func (b *bareController) serve(t *testing.T) (endpoint string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	darktowerv1.RegisterMeetingControllerServiceServer(server, b)
	go func() { _ = server.Serve(listener) }() // until Stop
	t.Cleanup(server.Stop)
	return "grpc://" + listener.Addr().String()
}

func TestHowReleasesEnd(t *testing.T) {
	for _, c := range []struct {
		name       string
		fails      int32
		code       codes.Code
		calls      int32
		resolution string
	}{
		{"at once", 0, codes.OK, 1, "released"},
		{"at the third try", 2, codes.Unavailable, 3, "released"},
		{"never: left to the heartbeats", 99, codes.Unavailable, 3, "left_to_heartbeat"},
		{"an older controller does not know how", 99, codes.Unimplemented, 1, "unsupported"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, patient)
			mc := new(bareController)
			mc.release = func() error {
				if mc.releases.Load() <= c.fails {
					return status.Error(c.code, "as scripted")
				}
				return nil
			}
			to := callee{id: "mc", endpoint: mc.serve(t)}
			resolved := make(chan string, 1)
			r.assigner.releaseInBackground(to, meeting("m"), 7, "test", func(how string) { resolved <- how })
			select {
			case how := <-resolved:
				if how != c.resolution || mc.releases.Load() != c.calls {
					t.Errorf("%s after %d calls, want %s after %d", how, mc.releases.Load(), c.resolution, c.calls)
				}
			case <-time.After(patient):
				t.Fatal("not resolved")
			}
		})
	}
}

func TestReleasesUnderWayAreBounded(t *testing.T) {
	r := newRig(t, patient)
	for range maxReleases {
		r.assigner.releases <- struct{}{}
	}
	var how string
	r.assigner.releaseInBackground(callee{id: "mc"}, meeting("m"), 7, "test", func(resolution string) { how = resolution })
	if how != "left_to_heartbeat" {
		t.Errorf("one too many is %q, want left_to_heartbeat, at once", how)
	}
}

func TestOrphansOfAnOlderControllerAreTolerated(t *testing.T) {
	r := newRig(t, patient)
	mc := new(bareController)
	mc.release = func() error { return status.Error(codes.Unimplemented, "unknown method") }
	r.log.ready(registration{kind: fsm.MeetingController, id: "old", endpoint: mc.serve(t)})
	// AssignMeetingWithMh is not implemented either: it may have been accepted for all we know.
	if _, err := r.join("m"); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("error %v, want ErrUnreachable", err)
	}
	eventually(t, "the orphan is counted", func() bool {
		return counted(t, r.metrics.orphans.WithLabelValues("unsupported")) == 1
	})
	r.expectNothingLeft()
}
