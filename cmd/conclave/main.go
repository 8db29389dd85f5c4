// Command conclave is the Global Controller and everything that people do with one from a
// terminal: run a replica, try a whole system on one machine, look at a cluster, and assign,
// show and end meetings.
//
// The commands parse, call and print. They never decide anything about a cluster themselves:
// whatever they show is the answer of a replica.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for an orderly end; the second one, whose default is restored here,
	// ends a process that does not manage it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}
