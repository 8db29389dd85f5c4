package sim

import (
	"testing"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

func TestTokenRules(t *testing.T) {
	const full = darktowerv1.RejectionReason_REJECTION_REASON_AT_CAPACITY
	type step struct {
		op       string // take, take-full or drop
		token    uint64
		want     Outcome
		hostedAt uint64 // token hosted afterwards; 0: none
	}
	for name, steps := range map[string][]step{
		"a higher token replaces":            {{"take", 5, OutcomeAccepted, 5}, {"take", 6, OutcomeAccepted, 6}},
		"a lower token is refused":           {{"take", 5, OutcomeAccepted, 5}, {"take", 4, OutcomeRefused, 5}},
		"the same token repeats":             {{"take", 5, OutcomeAccepted, 5}, {"take-full", 5, OutcomeRepeated, 5}},
		"a rejection is repeated too":        {{"take-full", 5, OutcomeRejected, 0}, {"take", 5, OutcomeRejected, 0}, {"take", 6, OutcomeAccepted, 6}},
		"a rejection keeps what is hosted":   {{"take", 5, OutcomeAccepted, 5}, {"take-full", 6, OutcomeRejected, 5}, {"take", 5, OutcomeRefused, 5}},
		"release at the token":               {{"take", 5, OutcomeAccepted, 5}, {"drop", 5, OutcomeReleased, 0}},
		"release above the token":            {{"take", 5, OutcomeAccepted, 5}, {"drop", 7, OutcomeReleased, 0}, {"take", 6, OutcomeRefused, 0}, {"take", 7, OutcomeRefused, 0}, {"take", 8, OutcomeAccepted, 8}},
		"release below the token":            {{"take", 5, OutcomeAccepted, 5}, {"drop", 4, OutcomeKept, 5}, {"take", 5, OutcomeRepeated, 5}},
		"released, then a lower token":       {{"take", 5, OutcomeAccepted, 5}, {"drop", 5, OutcomeReleased, 0}, {"take", 4, OutcomeRefused, 0}},
		"released, then the same token":      {{"take", 5, OutcomeAccepted, 5}, {"drop", 5, OutcomeReleased, 0}, {"take", 5, OutcomeRefused, 0}},
		"released, then a higher token":      {{"take", 5, OutcomeAccepted, 5}, {"drop", 5, OutcomeReleased, 0}, {"take", 6, OutcomeAccepted, 6}},
		"release overtakes the notification": {{"drop", 5, OutcomeNotHosted, 0}, {"take", 5, OutcomeRefused, 0}},
		"a late release of a lower token":    {{"take", 5, OutcomeAccepted, 5}, {"drop", 5, OutcomeReleased, 0}, {"drop", 3, OutcomeNotHosted, 0}, {"take", 4, OutcomeRefused, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHosting()
			for i, s := range steps {
				var got Outcome
				switch s.op {
				case "take":
					got, _ = h.take(standup, s.token, nil, unspecified)
				case "take-full":
					got, _ = h.take(standup, s.token, nil, full)
				case "drop":
					got = h.drop(standup, s.token)
				}
				if hosted := h.hosted[standup].Token; got != s.want || hosted != s.hostedAt {
					t.Fatalf("step %d, %s %d: %s, hosts token %d; want %s and %d", i+1, s.op, s.token, got, hosted, s.want, s.hostedAt)
				}
			}
			if outcome, _ := h.take(Key{Meeting: standup.Meeting, Region: "us"}, 1, nil, unspecified); outcome != OutcomeAccepted {
				t.Errorf("the tokens of one region bind another: %s", outcome)
			}
		})
	}
}
