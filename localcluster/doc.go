// Package localcluster runs replicas of Conclave as processes of their own on this machine, with
// real sockets and real disks, and kills, stops and restarts them. The demo, the tests of
// durability, the chaos runs and the benchmarks stand on it.
//
// It knows replicas from outside only: it must never import the code that they run.
package localcluster
