package main

import (
	"io"
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-systems", "echo,etcd", "-only", "report,get-stale", "-callers", "1,8", "-n", "2", "-reports", "stream"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.systems, []string{"echo", "etcd"}) || !slices.Equal(o.callers, []int{1, 8}) || o.rounds != 2 || o.reportBy != stream {
		t.Errorf("parsed as %+v", o)
	}
	if o.wanted(workload{name: wAssign}) || !o.wanted(workload{name: wReport}) || !o.wanted(workload{name: wEcho}) {
		t.Error("-only does not choose the workloads beside echo")
	}
}

func TestFleetIsLargerInScenarios(t *testing.T) {
	for _, c := range []struct {
		args []string
		want int
	}{{nil, 10_000}, {[]string{"-scenario", "fleet"}, 100_000}, {[]string{"-scenario", "scale", "-mhs", "70"}, 70}} {
		o, err := parse(c.args, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.size().MediaHandlers; got != c.want {
			t.Errorf("%v: %d media handlers, want %d", c.args, got, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"-systems", "zookeeper"}, {"-only", "rport"}, {"-callers", "0"}, {"-n", "0"}, {"-time", "0s"}, {"-rate", "-1"},
		{"-scenario", "all"}, {"-scenario", "fleet,scale"}, {"-reports", "post"}, {"-meetings", "0"}, {"extra"},
	} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestEverySystemIsFirstInTurn(t *testing.T) {
	all := systemNames()
	first := make(map[string]bool)
	for round := range len(all) {
		got := order(all, round)
		first[got[0]] = true
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(all))) {
			t.Errorf("round %d measures %v", round, got)
		}
	}
	if len(first) != len(all) {
		t.Errorf("only %v were ever first", first)
	}
}
