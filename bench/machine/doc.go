// Package machine tells on what a benchmark ran: figures mean nothing without it.
package machine
