// Package diskfault stands between a replica and its stores and holds up, fails or cuts short what
// is written, as a file next to the data folder says. It needs no root and no tracing, so every
// machine can try what a failing disk does.
//
// Only the chaos run builds it into a replica: no package of the product may import it.
package diskfault
