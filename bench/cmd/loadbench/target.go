package main

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// target is a set of servers that serve the same, over several connections each. It is safe for
// concurrent use.
type target struct {
	servers int
	conns   []*grpc.ClientConn // one to each server, then the second to each, and so on
}

func dial(addrs []string, connsEach int) (*target, error) {
	t := &target{servers: len(addrs)}
	for range connsEach {
		for _, addr := range addrs {
			conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, errors.Join(fmt.Errorf("connect to %s: %w", addr, err), t.close())
			}
			t.conns = append(t.conns, conn)
		}
	}
	return t, nil
}

func (t *target) close() error {
	var errs []error
	for _, conn := range t.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// conn is where a caller makes its nth call. It stays with one connection, and callers are spread
// evenly over servers and connections; when they are fewer than the servers, they go round.
func (t *target) conn(callers, caller, n int) *grpc.ClientConn {
	if callers < t.servers {
		return t.conns[(caller+n)%t.servers]
	}
	return t.conns[caller%len(t.conns)]
}
