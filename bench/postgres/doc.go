// Package postgres runs a PostgreSQL server as a process of its own on this machine, and makes the
// statements with which a controller that keeps its state there would do what Conclave does.
//
// Every statement commits by itself, as that controller has it: between its look-ups and its
// insert others may come, which Conclave does not allow.
package postgres
