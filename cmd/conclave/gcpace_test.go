package main

import "testing"

func TestGCPercent(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		kept uint64
		want int
	}{
		{"nothing collected yet", 0, gcMost},
		{"a small heap is collected seldom", 10 * mib, gcMost},
		{"what may be allocated is the allowance", 64 * mib, 400},
		{"from the allowance on as Go does by default", 256 * mib, gcDefault},
		{"a big heap is never left to grow more than twofold", 4096 * mib, gcDefault},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := gcPercent(c.kept); got != c.want {
				t.Errorf("gcPercent(%d MiB) = %d, want %d", c.kept/mib, got, c.want)
			}
		})
	}
}
