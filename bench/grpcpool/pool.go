package grpcpool

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Pool is a set of servers that serve the same, over several connections each. It is safe for
// concurrent use.
type Pool struct {
	servers int
	conns   []*grpc.ClientConn // one to each server, then the second to each, and so on
}

// Dial prepares connsEach connections to each address. It does not wait for any of them.
func Dial(addrs []string, connsEach int) (*Pool, error) {
	p := &Pool{servers: len(addrs)}
	for range connsEach {
		for _, addr := range addrs {
			conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, errors.Join(fmt.Errorf("connect to %s: %w", addr, err), p.Close())
			}
			p.conns = append(p.conns, conn)
		}
	}
	return p, nil
}

// Conns returns all connections. The slice must not be changed.
func (p *Pool) Conns() []*grpc.ClientConn { return p.conns }

// Close closes all connections; calls under way fail.
func (p *Pool) Close() error {
	var errs []error
	for _, conn := range p.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// Conn is where a caller makes its nth call. It stays with one connection, and callers are spread
// evenly over servers and connections; when they are fewer than the servers, they go round.
func (p *Pool) Conn(callers, caller, n int) *grpc.ClientConn {
	if callers < p.servers {
		return p.conns[(caller+n)%p.servers]
	}
	return p.conns[caller%len(p.conns)]
}
