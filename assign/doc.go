// Package assign places meetings: it chooses media handlers and a meeting controller by
// weighted random choice, asks the controller, and commits the assignment only once the
// controller has accepted. It also decides who has fallen silent.
//
// All of it is the leader's work. It must never record an assignment before its controller
// accepted it, answer from a leadership that may have passed, or leave an acceptance that did
// not become an assignment without an end.
package assign
