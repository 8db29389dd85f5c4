package assign

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

func tokenOf(t *testing.T, term, counter uint64) uint64 {
	t.Helper()
	token, err := fsm.NewToken(term, counter)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Each row is one meeting that the controller "here" says it hosts, to the leader of term 5.
func TestWhatAControllerMustDrop(t *testing.T) {
	r := newRig(t, patient)
	for r.assigner.desk.Load().lead.Term < 5 {
		r.lead()
	}
	d := r.assigner.desk.Load()
	d.counter = 1000 // what the rows name is drawn
	end := &commandv1.End{MeetingId: "ended", Region: "eu"}
	r.log.place(t, "here", 1, "here", "mh")
	r.log.place(t, "elsewhere", 2, "elsewhere", "mh")
	r.log.place(t, "ended", 3, "here", "mh")
	r.log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: end}})
	r.log.place(t, "replaced", 4, "here", "mh")
	d.placing[tokenOf(t, 5, 5)] = struct{}{}
	// An assignment of an older term that stands: place commits under the term of the log.
	r.log.mu.Lock()
	r.log.term = 4
	r.log.mu.Unlock()
	r.log.place(t, "older", 9, "here", "mh")
	r.log.mu.Lock()
	r.log.term = 5
	r.log.mu.Unlock()

	for _, c := range []struct {
		name    string
		meeting string
		token   uint64
		drop    bool
	}{
		{"assigned to it", "here", tokenOf(t, 5, 1), false},
		{"assigned to it by an older leader", "older", tokenOf(t, 4, 9), false},
		{"assigned to another controller, with the same token", "elsewhere", tokenOf(t, 5, 2), true},
		{"ended", "ended", tokenOf(t, 5, 3), true},
		{"assigned to it with a higher token", "replaced", tokenOf(t, 5, 1), true},
		{"assigned to it with a lower token", "older", tokenOf(t, 4, 10), true},
		{"being placed", "new", tokenOf(t, 5, 5), false},
		{"being placed, and another stands", "here", tokenOf(t, 5, 5), false},
		{"of this term, unknown and no longer placed", "unknown", tokenOf(t, 5, 6), true},
		{"of an older term, and unknown", "unknown", tokenOf(t, 3, 1), true},
		{"of a newer term", "unknown", tokenOf(t, 6, 1), false},
		{"of a newer term, and an older stands", "here", tokenOf(t, 6, 1), false},
		{"without a token", "unknown", 0, false},
		{"without a token, and it stands", "here", 0, false},
	} {
		hosted := Hosted{meeting(c.meeting), c.token}
		drop, err := r.assigner.Reconcile("here", []Hosted{hosted})
		if err != nil {
			t.Fatal(err)
		}
		if c.drop != slices.Equal(drop, []Hosted{hosted}) || (!c.drop && len(drop) > 0) {
			t.Errorf("%s: told to drop %v, want so: %t", c.name, drop, c.drop)
		}
	}
}

func TestTheSameMeetingIdInAnotherRegionIsNotDropped(t *testing.T) {
	r := newRig(t, patient)
	a := r.log.place(t, "m", 1, "mc", "mh")
	other := Hosted{fsm.MeetingKey{Region: "us", MeetingID: "m"}, a.Token}
	drop, err := r.assigner.Reconcile("mc", []Hosted{{a.MeetingKey, a.Token}, other})
	if err != nil || !slices.Equal(drop, []Hosted{other}) {
		t.Errorf("told to drop %v, %v; want the other region's alone", drop, err)
	}
}

// What is in flight is looked at before the state. In the other order, a placement that commits
// between the two looks is in neither, and its meeting would be dropped.
func TestAMeetingThatCommitsBetweenTheTwoLooksIsKept(t *testing.T) {
	r := newRig(t, patient)
	d := r.assigner.desk.Load()
	token, err := d.drawToken()
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock() // whoever asks what is in flight waits here
	answer := make(chan []Hosted, 1)
	go func() {
		drop, err := r.assigner.Reconcile("mc", []Hosted{{meeting("m"), token}})
		if err != nil {
			t.Error(err)
		}
		answer <- drop
	}()
	eventually(t, "the heartbeat waits to ask what is in flight", func() bool {
		stacks := make([]byte, 1<<20)
		for s := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(s, "sync.Mutex.Lock") && strings.Contains(s, ".reconcile(") {
				return true
			}
		}
		return false
	})
	if got := r.log.place(t, "m", d.counter, "mc", "mh"); got.Token != token {
		t.Fatalf("committed token %d, want %d", got.Token, token)
	}
	delete(d.placing, token)
	d.mu.Unlock()
	if drop := <-answer; len(drop) != 0 {
		t.Errorf("told to drop %v, which is assigned to it", drop)
	}
}

// The same through the front door: whatever moment of a join a heartbeat falls into, it must
// not name the meeting.
func TestHeartbeatsDuringAJoinKeepTheMeeting(t *testing.T) {
	r := newRig(t, patient)
	looked := 0
	look := func(when string) {
		t.Helper()
		looked++
		token := r.assigner.desk.Load().counter
		if drop, err := r.assigner.Reconcile("mc", []Hosted{{meeting("m"), tokenOf(t, 2, token)}}); err != nil || len(drop) > 0 {
			t.Errorf("%s: told to drop %v, %v", when, drop, err)
		}
	}
	r.controller("mc", func(*darktowerv1.AssignMeetingWithMhRequest) sim.Step {
		look("when it is asked")
		return sim.Accept()
	})
	r.log.hook(func(_ *commandv1.Command, apply func() fsm.Result) (fsm.Result, error) {
		look("before the commit")
		result := apply()
		look("after the commit")
		return result, nil
	})
	r.mustJoin("m")
	look("after the answer")
	if looked != 4 {
		t.Errorf("%d heartbeats, want 4", looked)
	}
}
