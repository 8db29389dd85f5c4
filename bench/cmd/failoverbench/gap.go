package main

import "time"

// ack is one acknowledged write: when it was sent, and when its answer came.
type ack struct{ sent, came time.Time }

// gap is the time between the last acknowledgement up to the moment at which a fault took hold and
// the first one of a write that was sent after that moment. Answers that came later to writes that
// were sent earlier are neither: the old leader may have given them on its last breath. There is no
// gap when one of the two is missing.
func gap(acks []ack, fault time.Time) (time.Duration, bool) {
	var last, first time.Time
	for _, a := range acks {
		if !a.came.After(fault) && a.came.After(last) {
			last = a.came
		}
		if a.sent.After(fault) && (first.IsZero() || a.came.Before(first)) {
			first = a.came
		}
	}
	if last.IsZero() || first.IsZero() {
		return 0, false
	}
	return first.Sub(last), true
}
