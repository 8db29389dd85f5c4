// Package proto is the home of Conclave's wire formats; the generated Go packages are in the
// folders beneath it. It has no code of its own, and nothing here but generated code ever
// should: what a message means belongs to the package that handles it.
//
// After changing a .proto file:
//
//	make proto                  # buf 1.75.0, protoc-gen-go 1.36.12, protoc-gen-go-grpc 1.6.2
//	go test ./proto -update     # adds what is new to testdata/wire.lock
//
// The tests here compare the generated code with testdata/wire.lock, which lists everything
// that other programs and old disks rely on. A line that is in that file stays true.
package proto
