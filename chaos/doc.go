// Package chaos tries to break a cluster: real replicas with real disks, clients, media handlers
// (MHs) and meeting controllers (MCs) over real connections, and a nemesis that kills, stops,
// partitions, slows and damages them. Everything that was said is recorded, and after each round
// every invariant is checked against all of it: the clients' histories, what the MCs were told,
// and the Raft log itself, replayed.
//
// It looks at replicas from outside while they run. Only stopped ones are read from inside.
package chaos
