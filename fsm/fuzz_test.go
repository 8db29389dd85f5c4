package fsm

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
)

// FuzzDecodeEntry: whatever bytes the log holds, decoding them never panics; what decodes means
// the same when it is encoded again, and can be applied.
func FuzzDecodeEntry(f *testing.F) {
	for _, cmd := range everyCommand() {
		data, err := EncodeEntry(entryOf(cmd))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	state := written(f, someState(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		entry, err := DecodeEntry(data)
		if anyway, other := decodeAnything(data); (err == nil) != (other == nil) || !proto.Equal(entry, anyway) {
			t.Fatalf("decoded as %v, %v; the general decoder says %v, %v", entry, err, anyway, other)
		}
		if err != nil {
			return
		}
		again, err := decodeAgain(t, entry)
		if err != nil || !proto.Equal(entry, again) {
			t.Fatalf("%v came back as %v, %v", entry, again, err)
		}
		m := NewMachine(nil)
		if err := m.Restore(bytes.NewReader(state)); err != nil {
			t.Fatal(err)
		}
		results := applyAll(t, m, Entry{Index: m.Index() + 1, Term: 1, Data: data})
		if len(results[0]) != len(entry.Commands) {
			t.Fatalf("%d results for %d commands", len(results[0]), len(entry.Commands))
		}
		checkInvariants(t, m.state)
		checkInvariants(t, restored(t, m.state))
	})
}

// FuzzReadSnapshot: bytes that are no snapshot are an error, never a panic; what can be read is
// whole, and stays the same when it is written again.
func FuzzReadSnapshot(f *testing.F) {
	f.Add(written(f, NewMachine(nil).Snapshot()))
	f.Add(written(f, someState(f)))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSnapshot(bytes.NewReader(data))
		if err != nil {
			if s != nil || !errors.Is(err, ErrDamagedSnapshot) && !errors.Is(err, ErrUnknownCommand) {
				t.Fatalf("damaged bytes gave %v, %v", s, err)
			}
			return
		}
		if again := restored(t, s); again.Hash() != s.Hash() || again.Index() != s.Index() {
			t.Fatalf("state hash %s, written and read again %s", s.Hash(), again.Hash())
		}
	})
}

// FuzzApply reads the bytes as choices that make up a log.
func FuzzApply(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{3, 8, 1, 4, 9, 13}, 60))
	f.Fuzz(func(t *testing.T, choices []byte) {
		next := 0
		choose := func(n int) int {
			if next == len(choices) {
				return 0
			}
			next++
			return int(choices[next-1]) % n
		}
		checkReplicasAgree(t, choose, min(len(choices)/8, 60))
	})
}
