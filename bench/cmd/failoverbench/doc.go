// Failoverbench measures for how long clients cannot write when a leader dies, stops or is cut off,
// in Conclave and in etcd, with the same clients. See failoverbench -h.
//
// The gap of one fault is the time between two acknowledgements, over all surviving replicas
// together: the last one before the fault took hold, and the first one of a write that was sent
// after. Writes are sent at a fixed pace through every surviving replica, never through the faulted
// one; a write that fails is not sent again.
package main
