package chaos

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReadSyncs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	trace := `4711 1732400000.100000 fdatasync(9) = 0 <0.002000>
4711 1732400000.200000 fdatasync(9 <unfinished ...>
4712 1732400000.201000 fsync(4) = -1 EIO (Input/output error) <0.001000>
4711 1732400000.203000 <... fdatasync resumed>) = 0 <0.003000>
4711 +++ killed by SIGKILL +++
`
	if err := os.WriteFile(path, []byte(trace), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := readSyncs(path)
	if err != nil {
		t.Fatal(err)
	}
	ms := func(n int64) time.Time { return time.UnixMilli(1732400000_000 + n) }
	want := []span{{ms(100), ms(102)}, {ms(200), ms(203)}}
	if len(got) != len(want) {
		t.Fatalf("%d syncs, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if got[i].from.Sub(want[i].from).Abs() > time.Microsecond || got[i].to.Sub(want[i].to).Abs() > time.Microsecond {
			t.Errorf("sync %d is %v, want %v", i, got[i], want[i])
		}
	}
	for _, test := range []struct {
		from, to int64
		want     bool
	}{{99, 110, true}, {90, 250, true}, {110, 190, false}, {103, 199, false}, {99, 100, false}} {
		if got := within(got, span{ms(test.from), ms(test.to)}); got != test.want {
			t.Errorf("a call from %d to %d: %v, want %v", test.from, test.to, got, test.want)
		}
	}
}
