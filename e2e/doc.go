// Package e2e holds the tests that run the real program: three replicas as processes, with real
// sockets, real disks and real signals. They say what an operator and a client may rely on when
// machines fail.
//
// It must never import the code that a replica runs: what cannot be seen from outside does not
// count here.
//
// To measure failovers: E2E_KILLS=20 go test -run TestFailover -v ./e2e
package e2e
