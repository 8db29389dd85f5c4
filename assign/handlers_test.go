package assign

import (
	"testing"

	"github.com/conclave-rtc/conclave/fsm"
)

func TestPrimaryAndBackup(t *testing.T) {
	for _, c := range []struct {
		name      string
		zones     []string // of the media handlers there are
		handlers  int
		twoZones  bool
		preferred string
	}{
		{"none", nil, 0, false, ""},
		{"one alone is the primary", []string{"a"}, 1, false, ""},
		{"two in one zone", []string{"a", "a"}, 2, false, ""},
		{"two in two zones", []string{"a", "b"}, 2, true, ""},
		{"many in one zone and one in another", []string{"a", "a", "a", "a", "a", "a", "a", "b"}, 2, true, ""},
		{"without zones", []string{"", ""}, 2, false, ""},
		{"one without a zone", []string{"a", ""}, 2, true, ""},
		{"the preferred zone does not hold both", []string{"a", "a", "a", "b"}, 2, true, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, log := newFleet()
			for i, zone := range c.zones {
				log.handler(nodeID("mh", i), zone, 0, 100)
			}
			for range 200 {
				got := x.chooseMediaHandlers("eu", c.preferred)
				if len(got) != c.handlers {
					t.Fatalf("%d media handlers, want %d", len(got), c.handlers)
				}
				if len(got) == 2 {
					if got[0].ID == got[1].ID {
						t.Fatalf("%s is its own backup", got[0].ID)
					}
					if (got[0].Zone != got[1].Zone) != c.twoZones {
						t.Fatalf("zones %q and %q, want two zones: %t", got[0].Zone, got[1].Zone, c.twoZones)
					}
				}
				for _, mh := range got {
					x.Done(mh)
				}
			}
		})
	}
}

func TestTheBackupIsTakenFromAnotherZoneWhateverItsLoad(t *testing.T) {
	x, log := newFleet()
	for i := range 6 {
		log.handler(nodeID("idle", i), "a", 0, 100)
	}
	log.handler("busy", "b", 90, 100)
	for range 100 {
		got := x.chooseMediaHandlers("eu", "")
		if got[0].ID != "busy" && got[1].ID != "busy" {
			t.Fatalf("chose %s and %s, both of zone a", got[0].ID, got[1].ID)
		}
		for _, mh := range got {
			x.Done(mh)
		}
	}
}

func TestChoosingReservesUntilDone(t *testing.T) {
	x, log := newFleet()
	log.handler("a", "", 0, 100)
	log.handler("b", "", 0, 100)
	got := x.chooseMediaHandlers("eu", "")
	for _, mh := range got {
		if n := x.Pending(fsm.MediaHandler, mh.ID); n != 1 {
			t.Errorf("%d meetings are pending on %s, want 1", n, mh.ID)
		}
		x.Done(mh)
		if n := x.Pending(fsm.MediaHandler, mh.ID); n != 0 {
			t.Errorf("%d meetings are pending on %s after Done", n, mh.ID)
		}
	}
	if n := x.Pending(fsm.MediaHandler, "unknown"); n != 0 {
		t.Errorf("%d meetings are pending on a node that is not there", n)
	}
}
