// Package replica puts one Global Controller together: the state machine, its Raft node, the
// assigner and the gRPC and HTTP servers, started and stopped in the right order.
//
// It must hold no logic of its own: what a replica does is decided in the parts.
package replica
