// Comparebench measures Conclave beside what else could do its work, on this machine and in one
// run: a gRPC echo server (the ceiling), etcd, and PostgreSQL. With -scenario it runs Conclave alone
// as a large fleet would, with a million meetings, or with more calls than it can take. See comparebench -h.
//
// All have three replicas, but for PostgreSQL, which has one, and the same callers and connections;
// each has the machine for itself while it is measured.
package main
