// Package grpcpool spreads callers over servers and connections, in the same way for every system
// that is compared.
package grpcpool
