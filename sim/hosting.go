package sim

import (
	"maps"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// Key names a meeting in a region: what an assignment is about.
type Key struct {
	Meeting string
	Region  string
}

// String is "region/meeting".
func (k Key) String() string { return k.Region + "/" + k.Meeting }

// Hosted is what a meeting controller holds of one meeting.
type Hosted struct {
	Token uint64
	MHs   []string // ranked: primary first
}

// hosting is what a meeting controller hosts and the fencing tokens that it has seen, with the
// rules that every meeting controller owes the cluster. The caller locks.
type hosting struct {
	hosted map[Key]Hosted
	// last holds the highest token seen of each meeting, hosted or not. It outlives the meeting:
	// a notification that was under way when the meeting was released must not bring it back.
	last map[Key]seenToken
}

type seenToken struct {
	token     uint64
	accepted  bool
	rejection darktowerv1.RejectionReason
	withdrawn bool // released or ended since: a repeat must not take it up again
}

func newHosting() *hosting {
	return &hosting{hosted: make(map[Key]Hosted), last: make(map[Key]seenToken)}
}

// take decides on a notification. objection is why the controller would not take a meeting that
// is new to it, or UNSPECIFIED when it would.
func (h *hosting) take(key Key, token uint64, mhs []string, objection darktowerv1.RejectionReason) (Outcome, darktowerv1.RejectionReason) {
	last, seen := h.last[key]
	if seen && token == last.token && !last.withdrawn {
		if last.accepted {
			return OutcomeRepeated, darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED
		}
		return OutcomeRejected, last.rejection
	}
	if seen && token <= last.token {
		return OutcomeRefused, darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED
	}
	if objection != darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED {
		h.last[key] = seenToken{token: token, rejection: objection}
		return OutcomeRejected, objection
	}
	h.last[key] = seenToken{token: token, accepted: true}
	h.hosted[key] = Hosted{Token: token, MHs: mhs}
	return OutcomeAccepted, darktowerv1.RejectionReason_REJECTION_REASON_UNSPECIFIED
}

// drop gives up what is hosted at or below token, and remembers the token so that nothing at or
// below it is taken again.
func (h *hosting) drop(key Key, token uint64) Outcome {
	if last := h.last[key]; token >= last.token {
		h.last[key] = seenToken{token: token, withdrawn: true}
	}
	held, ok := h.hosted[key]
	switch {
	case !ok:
		return OutcomeNotHosted
	case held.Token > token:
		return OutcomeKept
	}
	delete(h.hosted, key)
	return OutcomeReleased
}

func (h *hosting) copy() map[Key]Hosted {
	return maps.Clone(h.hosted)
}
