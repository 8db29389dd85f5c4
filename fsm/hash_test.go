package fsm

import "testing"

// A snapshot carries the hash that its writer computed, and replicas of two versions compare
// theirs: what is hashed, and how, stays as it is.
func TestTheStateHashIsWhatItWas(t *testing.T) {
	if got, want := someState(t).Hash(), "9ea928688bc7a4fbfe096e8b6f3acce4"; got != want {
		t.Errorf("the hash is %s, it has always been %s", got, want)
	}
}

func BenchmarkNodeDigest(b *testing.B) {
	n := &Node{
		Kind: MediaHandler, ID: "mh-local-0001", Region: "local", Zone: "a", GRPCEndpoint: "http://mh-local-0001.sim.invalid:50052",
		WebTransportEndpoint: "https://mh-local-0001.sim.invalid", Capacity: 1000, Used: 300, CPUPercent: 50, MemoryPercent: 40,
		BandwidthPercent: 30, Health: Healthy, RegistrationID: 1 << 60, Incarnation: 1000, RegisteredAtMs: 1700000000000,
		HeardIndex: 123456, LastReportMs: 1700000000000, Reported: [maxSessions]ReportSession{{1 << 62, 1 << 20}},
	}
	b.ReportAllocs()
	for b.Loop() {
		n.sum = n.digest()
	}
}
