package grpcsvc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// FuzzPageToken: a page token is refused or is a place, whatever it is; the token of a place leads
// back to it; and pages that begin anywhere give everything behind that place once, in order.
func FuzzPageToken(f *testing.F) {
	state := pagedState(f)
	var all []*fsm.Assignment
	state.Assignments(fsm.Cursor{}, "", "", true, func(a *fsm.Assignment) bool {
		all = append(all, a)
		return true
	})
	if len(all) != 60 {
		f.Fatalf("%d assignments to page through", len(all))
	}
	f.Add("", "eu", "m-1", uint64(1<<40|1), uint8(1))
	f.Add("bm90IGEgdG9rZW4", "eu", "m:1.a", uint64(0), uint8(3))
	f.Add(encodeCursor(all[3]), "", "", ^uint64(0), uint8(7))
	f.Add(encodeIDCursor("mh-1"), "eu-west", "m", uint64(0x0041004100410000), uint8(2))
	f.Fuzz(func(t *testing.T, token, region, meeting string, fencing uint64, size uint8) {
		checkIDCursor(t, token)
		after, bad := decodeCursor(token)
		if bad == nil {
			checkPlace(t, after)
			checkPages(t, state, all, after, 1+int(size)%9)
		}
		if !strings.Contains(region, "\x00") { // as regions are, by their own rule
			checkPlace(t, fsm.Cursor{MeetingKey: fsm.MeetingKey{Region: region, MeetingID: meeting}, Token: fencing})
		}
	})
}

func checkIDCursor(t *testing.T, token string) {
	if again, bad := decodeIDCursor(encodeIDCursor(token)); bad != nil || again != token {
		t.Errorf("the id %q came back as %q, %v", token, again, bad)
	}
	if id, bad := decodeIDCursor(token); bad == nil {
		if again, bad := decodeIDCursor(encodeIDCursor(id)); bad != nil || again != id {
			t.Errorf("the token %q is the id %q, then %q, %v", token, id, again, bad)
		}
	}
}

func checkPlace(t *testing.T, place fsm.Cursor) {
	token := encodeCursor(&fsm.Assignment{MeetingKey: place.MeetingKey, Token: place.Token})
	if again, bad := decodeCursor(token); bad != nil || again != place {
		t.Errorf("%+v came back as %+v, %v", place, again, bad)
	}
}

// checkPages reads from a place to the end, a page after the other.
func checkPages(t *testing.T, state *fsm.State, all []*fsm.Assignment, after fsm.Cursor, size int) {
	want := all[len(all):]
	for i, a := range all {
		if behind := a.Compare(after.MeetingKey); behind > 0 || behind == 0 && a.Token > after.Token {
			want = all[i:]
			break
		}
	}
	var got []*fsm.Assignment
	for {
		var page []*fsm.Assignment
		state.Assignments(after, "", "", true, func(a *fsm.Assignment) bool {
			page = append(page, a)
			return len(page) < size
		})
		got = append(got, page...)
		if len(page) < size {
			break
		}
		var bad *FieldError
		if after, bad = decodeCursor(encodeCursor(page[size-1])); bad != nil {
			t.Fatal(bad)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d assignments in pages of %d, want %d", len(got), size, len(want))
	}
}

// pagedState has meetings whose names begin alike, in regions whose names do, ended and live.
func pagedState(f *testing.F) *fsm.State {
	m := fsm.NewMachine(nil)
	entry := &commandv1.Entry{StampUnixMs: 1000}
	for i := range uint64(60) {
		key := fsm.MeetingKey{Region: []string{"eu", "eu-west", "us"}[i%3], MeetingID: fmt.Sprint("m-", i%13)}
		entry.Commands = append(entry.Commands,
			&commandv1.Command{Op: &commandv1.Command_End{End: &commandv1.End{Region: key.Region, MeetingId: key.MeetingID}}},
			&commandv1.Command{Op: &commandv1.Command_Assign{Assign: &commandv1.Assign{
				Region: key.Region, MeetingId: key.MeetingID, FencingToken: 1<<40 | (i + 1), McId: "mc-1"}}})
	}
	data, err := fsm.EncodeEntry(entry)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := m.Apply([]fsm.Entry{{Index: 1, Term: 1, Data: data}}); err != nil {
		f.Fatal(err)
	}
	return m.Snapshot()
}
