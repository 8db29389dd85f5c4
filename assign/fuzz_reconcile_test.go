package assign

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/raftnode"
)

// FuzzReconcile reads the bytes as what leaders place and end, and then as what a controller says
// that it hosts. Whatever it is, it is told to drop neither what stands, nor what is being placed,
// nor what this leader cannot judge, and it is told to drop all else.
func FuzzReconcile(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 2, 1, 1, 0, 3, 0, 2, 1, 4, 0, 5, 0, 0, 9, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add(slices.Concat(slices.Repeat([]byte{0, 3, 1, 0, 3, 0, 0, 4, 1, 2, 4, 0}, 6), slices.Repeat([]byte{9, 1, 2}, 20)))
	metrics := NewMetrics(prometheus.NewRegistry())
	token, err := OpenTokenFile("", hclog.NewNullLogger())
	if err != nil {
		f.Fatal(err)
	}
	assigner := NewAssigner(Config{StaleAfter: time.Hour}, NewIndex(), NewControllers(token, time.Second, metrics), metrics, hclog.NewNullLogger())
	f.Fuzz(func(t *testing.T, script []byte) {
		b := &reconcileBench{script: script, assigner: assigner, log: newFakeLog(nil), stands: make(map[fsm.MeetingKey]standingToken)}
		b.lead()
		for range 60 {
			if b.step(t) {
				break
			}
		}
		b.check(t)
	})
}

// reconcileBench is a line of leaders and what they placed.
type reconcileBench struct {
	script   []byte
	assigner *Assigner
	log      *fakeLog
	desk     *desk
	drawn    []uint64 // every token that was ever drawn
	open     []uint64 // those of this leader whose fate is open
	stands   map[fsm.MeetingKey]standingToken
}

type standingToken struct {
	token uint64
	mc    string
}

func (b *reconcileBench) choose(n int) int {
	if len(b.script) == 0 {
		return 0
	}
	choice := int(b.script[0]) % n
	b.script = b.script[1:]
	return choice
}

func (b *reconcileBench) lead() {
	b.desk = newDesk(b.assigner, b.log, raftnode.Leadership{Term: b.log.elect(), Context: context.Background()})
	b.open = nil
}

func (b *reconcileBench) meeting() fsm.MeetingKey {
	return fsm.MeetingKey{Region: []string{"eu", "us"}[b.choose(2)], MeetingID: fmt.Sprint("m-", b.choose(5))}
}

func (b *reconcileBench) mc() string { return fmt.Sprint("mc-", b.choose(3)) }

// step lets one thing happen; true when nothing more is to.
func (b *reconcileBench) step(t *testing.T) (last bool) {
	switch b.choose(10) {
	case 0, 1, 2, 3:
		token, err := b.desk.drawToken()
		if err != nil {
			t.Fatal(err)
		}
		b.drawn, b.open = append(b.drawn, token), append(b.open, token)
	case 4, 5, 6: // one of the placements ends, in a commit or not
		if len(b.open) == 0 {
			return false
		}
		i := b.choose(len(b.open))
		token := b.open[i]
		b.open = slices.Delete(b.open, i, i+1)
		if b.choose(4) > 0 {
			b.commit(b.meeting(), b.mc(), token)
		}
		b.desk.decided(token)
	case 7:
		key := b.meeting()
		b.log.commit(&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{MeetingId: key.MeetingID, Region: key.Region}}})
		delete(b.stands, key)
	case 8:
		b.lead()
	default:
		return true
	}
	return false
}

func (b *reconcileBench) commit(key fsm.MeetingKey, mc string, token uint64) {
	r := b.log.commit(&commandv1.Command{Op: &commandv1.Command_Assign{Assign: &commandv1.Assign{
		MeetingId: key.MeetingID, Region: key.Region, McId: mc, FencingToken: token, ExpectToken: b.stands[key].token,
	}}})[0]
	if r.Outcome == fsm.Applied {
		b.stands[key] = standingToken{token, mc}
	}
}

// token is one that a controller may come with: drawn, made up, of another term, or none.
func (b *reconcileBench) token() uint64 {
	switch b.choose(8) {
	case 0:
		return uint64(b.choose(4)) << 40
	case 1:
		return b.log.term<<40 + uint64(b.choose(12)) // of this term, drawn or not
	case 2:
		return (b.log.term + 1 + uint64(b.choose(2))) << 40
	default:
		if len(b.drawn) == 0 {
			return uint64(b.choose(256))
		}
		return b.drawn[b.choose(len(b.drawn))]
	}
}

func (b *reconcileBench) check(t *testing.T) {
	controller := b.mc()
	var hosted, want []Hosted
	for len(b.script) > 0 && len(hosted) < 60 {
		h := Hosted{Key: b.meeting(), Token: b.token()}
		hosted = append(hosted, h)
		newer := h.Token >= (b.desk.lead.Term+1)<<40
		if h.Token != 0 && !newer && !slices.Contains(b.open, h.Token) && b.stands[h.Key] != (standingToken{h.Token, controller}) {
			want = append(want, h)
		}
	}
	// And all that it must keep.
	for key, s := range b.stands {
		if s.mc == controller {
			hosted = append(hosted, Hosted{key, s.token})
		}
	}
	for _, token := range b.open {
		hosted = append(hosted, Hosted{b.meeting(), token})
	}
	if got := b.desk.reconcile(controller, hosted); !slices.Equal(got, want) {
		t.Fatalf("in term %d, with %v standing and %v open, %s hosts %v and is told to drop %v, want %v",
			b.desk.lead.Term, b.stands, b.open, controller, hosted, got, want)
	}
}
