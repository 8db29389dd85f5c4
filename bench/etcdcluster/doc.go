// Package etcdcluster runs members of etcd as processes of their own on this machine, with real
// sockets and real disks, as package localcluster runs replicas of Conclave, so that both stand on
// equal ground when they are compared.
//
// A member is the benchmark's own binary, started anew with etcd's server in it: it needs no etcd
// installed. Its settings are those that an operator gets, but for the timers that Config names.
package etcdcluster
