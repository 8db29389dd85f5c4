package replica

import (
	"net"
	"testing"
)

// Others are told what the initial cluster says, which is not what a name resolves to.
func TestAdvertisedAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, test := range []struct{ advertise, address, want string }{
		{"gc-1.example:7950", "127.0.0.1:0", "gc-1.example:7950"},
		{"", "localhost:" + port(l.Addr().String()), "localhost:" + port(l.Addr().String())},
		{"", "localhost:7950", l.Addr().String()}, // somebody else opened another
		{"", "127.0.0.1:0", l.Addr().String()},
	} {
		if got := advertised(test.advertise, test.address, l); got != test.want {
			t.Errorf("advertise %q, listen at %q: %s, want %s", test.advertise, test.address, got, test.want)
		}
	}
}
