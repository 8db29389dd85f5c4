package machine

import (
	"os/exec"
	"runtime"
	"testing"
)

func TestProcessorTimeOfAChildIsNotOwn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	before, err := readCPU()
	if err != nil {
		t.Fatal(err)
	}
	// A child of the child works, and ends.
	child := exec.Command("sh", "-c", "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo done; read end")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	now, err := readCPU()
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	_ = child.Wait()
	own, children := now.Own-before.Own, now.Children-before.Children
	if children == 0 || own > children {
		t.Errorf("a loop in a child took %v of children and %v of this process", children, own)
	}
}
