// Package sim holds simulated media handlers, meeting controllers and joining clients that speak
// the real gRPC contract to a running cluster, and the ledger that judges afterwards whether the
// cluster kept its word.
//
// It is a client like any other: it must never look inside a replica, share code with the
// cluster's own packages, or learn anything other than from gRPC answers. Otherwise it would
// prove nothing.
package sim
