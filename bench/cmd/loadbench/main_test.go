package main

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-stores", "wal", "-only", "report,get-stale", "-callers", "1,8", "-n", "5"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.stores, []string{"wal"}) || !slices.Equal(o.workloads, []string{"report", "get-stale"}) ||
		!slices.Equal(o.callers, []int{1, 8}) || o.rounds != 5 {
		t.Errorf("parsed as %+v", o)
	}
	if o.wanted("assign-new") || !o.wanted("report") {
		t.Error("-only does not choose the workloads")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"-stores", "paper"}, {"-only", "rport"}, {"-callers", "0"}, {"-callers", "many"},
		{"-n", "0"}, {"-time", "0s"}, {"-rate", "-1"}, {"extra"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestNoStoreIsAlwaysFirst(t *testing.T) {
	stores := []string{"bolt", "wal"}
	if got := order(stores, 0); !slices.Equal(got, []string{"bolt", "wal"}) {
		t.Errorf("first round: %v", got)
	}
	if got := order(stores, 1); !slices.Equal(got, []string{"wal", "bolt"}) {
		t.Errorf("second round: %v", got)
	}
}
