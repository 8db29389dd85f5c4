package raftnode

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// checkedLog keeps a checksum with every entry and holds the entry to it when it is read. Neither
// store does: a byte that changed on the disk would be replayed as a command, and this replica's
// state would silently be another one.
type checkedLog struct{ raft.LogStore }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers all of an entry that a replica acts on.
func checksum(l *raft.Log) []byte {
	var head [17]byte
	binary.BigEndian.PutUint64(head[0:], l.Index)
	binary.BigEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, l.Data)
	return binary.BigEndian.AppendUint32(nil, sum)
}

// IsMonotonic passes on what the store says.
func (c *checkedLog) IsMonotonic() bool {
	m, ok := c.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (c *checkedLog) StoreLog(entry *raft.Log) error { return c.StoreLogs([]*raft.Log{entry}) }

// StoreLogs puts the checksum where raft leaves room for what lies around its store. The caller's
// entries stay as they are: raft sends them to other replicas.
func (c *checkedLog) StoreLogs(entries []*raft.Log) error {
	checked := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		withSum := *entry
		withSum.Extensions = checksum(entry)
		checked[i] = &withSum
	}
	return c.LogStore.StoreLogs(checked)
}

// GetLog fails for an entry that is not what was stored at its index.
func (c *checkedLog) GetLog(index uint64, entry *raft.Log) error {
	if err := c.LogStore.GetLog(index, entry); err != nil {
		return err
	}
	if entry.Index != index || string(entry.Extensions) != string(checksum(entry)) {
		return fmt.Errorf("entry %d of the Raft log is damaged", index)
	}
	entry.Extensions = nil
	return nil
}
