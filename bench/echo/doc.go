// Package echo is a gRPC server that answers a load report at once: what gRPC itself costs, which
// no cluster can beat. It is a process of its own, as a replica is.
package echo
