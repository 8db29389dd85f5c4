package raftnode

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// BenchmarkLogStore is what a write to the disk costs, fsync included: entries the size of one
// report, alone and as many as arrive together. The folder is TMPDIR's: on a file system in
// memory, the figures say nothing.
func BenchmarkLogStore(b *testing.B) {
	for _, kind := range []LogStoreKind{LogStoreBolt, LogStoreWAL} {
		for _, entries := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/entries=%d", kind, entries), func(b *testing.B) {
				benchLogStore(b, kind, entries)
			})
		}
	}
}

func benchLogStore(b *testing.B, kind LogStoreKind, entries int) {
	const size = 120
	s, err := openStores(b.TempDir(), kind, hclog.NewNullLogger(), func(err error) { b.Error(err) })
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			b.Error(err)
		}
	}()
	logs := make([]*raft.Log, entries)
	for i := range logs {
		logs[i] = &raft.Log{Term: 1, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(i)}, size)}
	}
	b.SetBytes(int64(entries * size))
	b.ReportAllocs()
	var index uint64
	for b.Loop() {
		for _, l := range logs {
			index++
			l.Index = index
		}
		if err := s.log.StoreLogs(logs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/entry")
	if last, err := s.log.LastIndex(); err != nil || last != index {
		b.Fatalf("the store holds %d entries (%v), %d were written", last, err, index)
	}
}
