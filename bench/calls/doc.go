// Package calls makes the calls to a cluster of Conclave that are measured, and checks the answers:
// fast wrong answers must not count.
package calls
