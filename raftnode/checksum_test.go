package raftnode

import (
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// An entry comes back as it was stored, and not at all when the store changed anything in it.
func TestCheckedLogFindsDamage(t *testing.T) {
	for name, damage := range map[string]func(*raft.Log){
		"nothing":  func(*raft.Log) {},
		"index":    func(l *raft.Log) { l.Index = 9 },
		"term":     func(l *raft.Log) { l.Term++ },
		"type":     func(l *raft.Log) { l.Type = raft.LogNoop },
		"data":     func(l *raft.Log) { l.Data = []byte("commanD") },
		"checksum": func(l *raft.Log) { l.Extensions = nil },
	} {
		t.Run(name, func(t *testing.T) {
			store := &spoiledStore{InmemStore: raft.NewInmemStore(), spoil: damage}
			log := &checkedLog{store}
			stored := raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("command")}
			if err := log.StoreLog(&stored); err != nil {
				t.Fatal(err)
			}
			if stored.Extensions != nil {
				t.Error("the caller's entry was changed")
			}
			var got raft.Log
			err := log.GetLog(7, &got)
			switch {
			case name != "nothing":
				if err == nil || !strings.Contains(err.Error(), "entry 7 of the Raft log is damaged") {
					t.Errorf("got %v, want a refusal", err)
				}
			case err != nil:
				t.Error(err)
			case string(got.Data) != "command" || got.Term != 3 || got.Extensions != nil:
				t.Errorf("got %+v", got)
			}
		})
	}
}

// spoiledStore gives back something else than it was given.
type spoiledStore struct {
	*raft.InmemStore
	spoil func(*raft.Log)
}

func (s *spoiledStore) GetLog(index uint64, entry *raft.Log) error {
	err := s.InmemStore.GetLog(index, entry)
	s.spoil(entry)
	return err
}
