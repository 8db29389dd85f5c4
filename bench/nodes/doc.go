// Package nodes is a large fleet around a cluster that is measured: media handlers that are names,
// and meeting controllers that answer, keep what they owe the cluster, and send heartbeats.
//
// It is lighter than package sim, which keeps a journal of everything: a thousand controllers and
// a million meetings are to cost the machine little while a cluster is measured on it.
package nodes
