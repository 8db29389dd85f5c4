package fsm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// crowd is a state with many assignments, live and ended, in a few regions and on a few MCs.
func crowd(t failer) *State {
	t.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	h := newHistory(random.IntN)
	h.meetings = 40
	m := NewMachine(nil)
	for range 1200 {
		applyAll(t, m, h.next(t, m.state))
	}
	return m.state
}

// wanted is what a listing must give, by the plainest means.
func wanted(s *State, after Cursor, region, mcID string, ended bool) []*Assignment {
	pivot := &Assignment{MeetingKey: after.MeetingKey, Token: after.Token}
	return slices.DeleteFunc(everyAssignment(s), func(a *Assignment) bool {
		return !byToken(pivot, a) || region != "" && a.Region != region ||
			mcID != "" && a.MCID != mcID || !ended && !a.Live()
	})
}

func TestAssignmentsPageByPage(t *testing.T) {
	s := crowd(t)
	if c := s.Counts(); c.LiveAssignments < 20 || c.EndedAssignments < 20 {
		t.Fatalf("%+v is too few to page", c)
	}
	rapid.Check(t, func(t *rapid.T) {
		region := rapid.SampledFrom([]string{"", "region-0", "region-1", "region", "zzz"}).Draw(t, "region")
		mcID := rapid.SampledFrom([]string{"", "mc-0", "mc-1", "mc-2", "mc", "zzz"}).Draw(t, "mc")
		ended := rapid.Bool().Draw(t, "ended")
		after := drawCursor(t, s)
		want := wanted(s, after, region, mcID, ended)
		var got []*Assignment
		for {
			size := rapid.IntRange(1, 30).Draw(t, "page size")
			page := onePage(s, after, region, mcID, ended, size)
			got = append(got, page...)
			if len(page) < size {
				break
			}
			last := page[size-1]
			after = Cursor{last.MeetingKey, last.Token}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d assignments in pages, want these %d:\n%v\n%v", len(got), len(want), names(got), names(want))
		}
	})
}

// drawCursor draws the start, a place that an assignment has, or one between.
func drawCursor(t *rapid.T, s *State) Cursor {
	if rapid.Bool().Draw(t, "from the start") {
		return Cursor{}
	}
	a := rapid.SampledFrom(everyAssignment(s)).Draw(t, "at")
	token := rapid.SampledFrom([]uint64{0, a.Token - 1, a.Token, a.Token + 1, ^uint64(0)}).Draw(t, "token")
	return Cursor{a.MeetingKey, token}
}

func onePage(s *State, after Cursor, region, mcID string, ended bool, size int) []*Assignment {
	var page []*Assignment
	s.Assignments(after, region, mcID, ended, func(a *Assignment) bool {
		page = append(page, a)
		return len(page) < size
	})
	return page
}

func names(list []*Assignment) []string {
	var all []string
	for _, a := range list {
		all = append(all, fmt.Sprintf("%s/%s/%d@%s", a.Region, a.MeetingID, a.Token, a.MCID))
	}
	return all
}

// A listing that is narrowed must not walk what it leaves out.
func TestANarrowListingVisitsOnlyItsOwn(t *testing.T) {
	s := crowd(t)
	visited := 0
	s.liveAfter(Cursor{}, "mc-1")(func(a *Assignment) bool {
		visited++
		return true
	})
	if want := len(wanted(s, Cursor{}, "", "mc-1", false)); visited != want {
		t.Errorf("visited %d live assignments for an MC that has %d", visited, want)
	}
}
