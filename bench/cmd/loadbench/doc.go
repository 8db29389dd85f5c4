// Loadbench measures a cluster of three replicas, each a process of its own, on this machine. See
// loadbench -h.
//
// The replicas run with the flags that an operator would give them; what a user does not have, a
// benchmark must not have either.
package main
