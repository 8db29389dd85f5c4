// Package product is what the benchmarks know of Conclave's source: which commit it is, and how its
// binary is built.
package product
