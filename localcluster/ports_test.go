package localcluster_test

import (
	"testing"

	"github.com/conclave-rtc/conclave/localcluster"
)

// A cluster asks for ports more than once before it listens at any.
func TestNoPortIsGivenTwice(t *testing.T) {
	given := make(map[string]bool)
	for range 100 {
		addrs, err := localcluster.FreePorts(10)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range addrs {
			if given[addr] {
				t.Fatalf("%s is given a second time", addr)
			}
			given[addr] = true
		}
	}
}
