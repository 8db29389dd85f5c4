// Package fleet is what stands around a cluster of Conclave while it is measured: controllers that
// answer and send heartbeats, and media handlers that are only names.
package fleet
