// Package batch lets calls that wait for the same thing share it: one log entry, one message to
// the leader, one round of heartbeats. It never makes a call wait for company: an idle line
// takes it at once, a busy one takes all that came meanwhile.
package batch
