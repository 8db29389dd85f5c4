package main

import (
	"errors"
	"fmt"
)

// view is how one replica says the cluster is.
type view struct {
	leader             string // empty while it knows none
	term               uint64
	committed, applied uint64
}

// agreement returns nil if all know the same leader of the same term, and each has applied what any
// of them knows to be committed.
func agreement(views []view) error {
	if len(views) == 0 {
		return errors.New("no replica was asked")
	}
	first := views[0]
	var committed uint64
	for _, v := range views {
		if v.leader == "" {
			return errors.New("a replica knows no leader")
		}
		if v.leader != first.leader || v.term != first.term {
			return fmt.Errorf("one follows %s of term %d, another %s of term %d", first.leader, first.term, v.leader, v.term)
		}
		committed = max(committed, v.committed)
	}
	for _, v := range views {
		if v.applied < committed {
			return fmt.Errorf("a replica has applied %d of %d", v.applied, committed)
		}
	}
	return nil
}
