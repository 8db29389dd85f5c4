package main

import (
	"slices"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-only", "etcd-tuned,conclave", "-kills", "7", "-etcd-partitions", "0", "-pace", "2ms"})
	if err != nil {
		t.Fatal(err)
	}
	if o.conclave[sigkill] != 7 || o.conclave[sigstop] != 60 || o.etcd[sigkill] != 60 || o.etcd[partition] != 0 || o.pace != 2*time.Millisecond {
		t.Errorf("parsed as %+v", o)
	}
	var names []string
	for _, s := range o.wanted("") {
		names = append(names, s.name)
		for _, f := range faults(o.lasts) {
			if _, known := o.conclave[f.name]; !known {
				t.Errorf("no flag says how often %s is to be", f.name)
			}
		}
	}
	if !slices.Equal(names, []string{"conclave", "etcd-tuned"}) {
		t.Errorf("systems are %v, in the order of the report", names)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"-only", "zookeeper"}, {"-kills", "-1"}, {"-pace", "0s"}, {"-pace", "1s"}, {"-lasts", "1ms"}, {"extra"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
