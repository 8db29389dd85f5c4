// Package grpcsvc serves Conclave's gRPC API: the Dark Tower services that media handlers and
// meeting controllers speak, and Conclave's own services for gateways and people.
//
// It turns a request into a call of the package that does the work, and that package's answer
// into a message or a status. It must never decide anything itself: what it refuses, it refuses
// because the request is malformed (validate.go), and what it reports, it reports with the
// status and reason that clients branch on (errors.go).
package grpcsvc
