package chaos

import (
	"fmt"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// at gives a call its times, in milliseconds.
func at(sent, back int, c Call) *Call {
	c.Sent, c.Back = time.Duration(sent)*time.Millisecond, time.Duration(back)*time.Millisecond
	c.Client = fmt.Sprintf("c%d", sent)
	if c.Outcome == "" {
		c.Outcome = Done
	}
	return &c
}

func created(token uint64) Call {
	return Call{Kind: KindJoin, Created: true, Found: &Placement{Token: token, MC: "mc", MHs: []string{"a", "b"}}}
}

func joined(token uint64) Call {
	c := created(token)
	c.Created = false
	return c
}

func read(token uint64) Call {
	c := joined(token)
	c.Kind = KindGet
	return c
}

func ended(token uint64) Call { return Call{Kind: KindEnd, Token: token} }

func lost(c Call) Call {
	c.Outcome, c.Found, c.Created = Unknown, nil, false
	return c
}

func refused(c Call, reason string) Call {
	c.Outcome, c.Reason, c.Found = Refused, reason, nil
	return c
}

var none = refused(Call{Kind: KindGet}, "NO_ASSIGNMENT")

func TestModel(t *testing.T) {
	moved := read(1)
	moved.Found = &Placement{Token: 1, MC: "mc", MHs: []string{"b", "a"}}
	for _, test := range []struct {
		name  string
		calls []*Call
		want  bool
	}{
		{"join, read, end, join again", []*Call{
			at(0, 1, created(1)), at(2, 3, read(1)), at(4, 5, ended(1)), at(6, 7, none), at(8, 9, created(2)), at(10, 11, joined(2)),
		}, true},
		{"two joins create at once", []*Call{at(0, 5, created(1)), at(0, 5, created(2))}, true},
		{"a read before the join", []*Call{at(0, 1, read(1)), at(2, 3, created(1))}, false},
		{"a read of nothing after a join", []*Call{at(0, 1, created(1)), at(2, 3, none)}, false},
		{"a read beside a join may miss it", []*Call{at(0, 5, created(1)), at(1, 2, none)}, true},
		{"a read of what has ended", []*Call{at(0, 1, created(1)), at(2, 3, ended(1)), at(4, 5, read(1))}, false},
		{"a join is given what has ended", []*Call{at(0, 1, created(1)), at(2, 3, ended(1)), at(4, 5, joined(1))}, false},
		{"other media handlers for the same token", []*Call{at(0, 1, created(1)), at(2, 3, moved)}, false},
		{"a token that falls", []*Call{at(0, 1, created(2)), at(2, 3, ended(2)), at(4, 5, created(1))}, false},
		{"an old token ends nothing", []*Call{
			at(0, 1, created(1)), at(2, 3, ended(1)), at(4, 5, created(2)), at(6, 7, refused(ended(1), "FENCED")), at(8, 9, read(2)),
		}, true},
		{"an old token ends what is live", []*Call{at(0, 1, created(1)), at(2, 3, created(2)), at(4, 5, ended(1)), at(6, 7, none)}, false},
		{"ending twice", []*Call{at(0, 1, created(1)), at(2, 3, ended(1)), at(4, 5, ended(1))}, true},
		{"a lost join may have happened", []*Call{at(0, 1, lost(created(1))), at(2, 3, read(7)), at(4, 5, joined(7))}, true},
		{"a lost join may never happen", []*Call{at(0, 1, lost(created(1))), at(2, 3, none), at(4, 5, created(3))}, true},
		{"a lost join may happen later", []*Call{at(0, 1, lost(created(1))), at(2, 3, none), at(4, 5, read(9))}, true},
		{"a lost join happens once", []*Call{
			at(0, 1, lost(created(1))), at(2, 3, read(7)), at(4, 5, ended(7)), at(6, 7, none), at(8, 9, read(8)),
		}, false},
		{"a lost end may have happened", []*Call{at(0, 1, created(1)), at(2, 3, lost(ended(1))), at(4, 5, none)}, true},
		{"a lost end of an old token does nothing", []*Call{
			at(0, 1, created(1)), at(2, 3, ended(1)), at(4, 5, created(2)), at(6, 7, lost(ended(1))), at(8, 9, none),
		}, false},
		{"a join that made it at its first try and found it at its second", []*Call{at(0, 5, joined(1)), at(6, 7, read(1))}, true},
		{"a join that finds nobody's assignment in place of a known one", []*Call{at(0, 1, created(1)), at(2, 3, joined(1)), at(4, 5, read(5)), at(6, 7, created(5))}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			model := meetingModel.ToModel()
			if got := porcupine.CheckOperations(model, operations(test.calls)); got != test.want {
				t.Errorf("linearizable: %v, want %v", got, test.want)
			}
		})
	}
}
