// Package figures is what the reports of the benchmarks are made of: the runs of one measurement in
// several rounds, and how they are shown and judged.
package figures
