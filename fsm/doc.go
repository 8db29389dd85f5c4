// Package fsm is the replicated state machine: which media handlers (MHs) and meeting
// controllers (MCs) exist, how loaded they are, and which meeting lives where.
//
// It is pure. Applying a log entry uses the entry and the state and nothing else: no clock, no
// randomness, no order of a Go map, no I/O, no gRPC. Two replicas that applied the same entries
// have the same state hash, and so has one that restored a snapshot of it.
package fsm
