package machine

import (
	"os"
	"strings"
	"testing"
)

func TestReadTimesTheDiskAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.Cores < 1 || f.FsyncP50 <= 0 || f.FsyncP99 < f.FsyncP50 {
		t.Errorf("facts are %+v", f)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if !strings.Contains(f.String(), f.Go) {
		t.Errorf("%q does not name the version of Go", f)
	}
}

func TestReadOfAFolderThatIsNotThere(t *testing.T) {
	if _, err := Read(t.TempDir() + "/missing"); err == nil {
		t.Error("it timed a disk in a folder that is not there")
	}
}
