package localcluster

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports are given below the range from which the kernel takes those of outgoing connections,
// so that none is taken while its server is down.
const (
	firstPort = 10_000
	portCount = 22_000
)

// Ports are given in turn. The first is any, as other processes may give ports here too.
var (
	portStart = rand.Uint32N(portCount)
	portsSeen atomic.Uint32
)

// FreePorts finds n addresses on the loopback that nobody listens at. Nothing holds them for
// the caller, so this process gives none again before all have had their turn.
func FreePorts(n int) ([]string, error) {
	var found []string
	for range portCount {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+(portStart+portsSeen.Add(1))%portCount)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue // somebody's
		}
		if err := l.Close(); err != nil {
			return nil, fmt.Errorf("give back %s: %w", addr, err)
		}
		if found = append(found, addr); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports on 127.0.0.1: there are %d", n, len(found))
}
