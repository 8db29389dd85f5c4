package main

import (
	"testing"
	"time"
)

func TestGap(t *testing.T) {
	begin := time.Now()
	at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
	before := []ack{{at(80), at(90)}, {at(85), at(95)}, {at(70), at(92)}}
	for _, c := range []struct {
		name string
		acks []ack
		want time.Duration
		ok   bool
	}{
		{"from the last before to the first after", append(before, ack{at(105), at(400)}, ack{at(110), at(398)}), 303 * time.Millisecond, true},
		{"the last breath does not end it", append(before, ack{at(98), at(103)}, ack{at(300), at(310)}), 215 * time.Millisecond, true},
		{"nor what was held up since before", append(before, ack{at(99), at(350)}, ack{at(330), at(360)}), 265 * time.Millisecond, true},
		{"nor what was sent at the very moment", append(before, ack{at(100), at(102)}, ack{at(101), at(200)}), 105 * time.Millisecond, true},
		{"no write went on", before, 0, false},
		{"no write succeeded before", []ack{{at(101), at(103)}}, 0, false},
		{"nothing at all", nil, 0, false},
	} {
		if got, ok := gap(c.acks, at(100)); got != c.want || ok != c.ok {
			t.Errorf("%s: %v %v, want %v %v", c.name, got, ok, c.want, c.ok)
		}
	}
}
