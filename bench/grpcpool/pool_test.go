package grpcpool

import (
	"testing"

	"google.golang.org/grpc"
)

func TestCallersAreSpreadEvenly(t *testing.T) {
	addrs := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	to, err := Dial(addrs, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	for _, callers := range []int{1, 2, 3, 12} {
		const calls = 6
		servers, conns := make(map[string]int), make(map[*grpc.ClientConn]int)
		for caller := range callers {
			for n := range calls {
				conn := to.Conn(callers, caller, n)
				servers[conn.Target()]++
				conns[conn]++
			}
		}
		for _, addr := range addrs {
			if got, want := servers["passthrough:///"+addr], callers*calls/3; got != want {
				t.Errorf("%d callers: %d calls at %s, want %d", callers, got, addr, want)
			}
		}
		if want := min(max(callers, 3), 6); len(conns) != want {
			t.Errorf("%d callers use %d connections, want %d", callers, len(conns), want)
		}
	}
}
