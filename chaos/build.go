package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Edit replaces text that occurs exactly once in a file.
type Edit struct {
	File     string // below the module's folder, with slashes
	Old, New string
}

// clockFolder is the variable that names the folder with a file for each replica that says by how
// many milliseconds its wall clock is wrong.
const clockFolder = "CHAOS_CLOCKS"

// adjustableClock lets the run move the wall clock of one replica, by which its entries are stamped.
var adjustableClock = []Edit{
	{"raftnode/clock.go", "\"sync\"\n", "\"os\"\n\t\"path/filepath\"\n\t\"slices\"\n\t\"strconv\"\n\t\"strings\"\n\t\"sync\"\n"},
	{"raftnode/clock.go", "return now.UnixMilli()\n", "return now.UnixMilli() + wrongBy()\n"},
	{"raftnode/clock.go", "return max(now.UnixMilli(),", "return max(now.UnixMilli()+wrongBy(),"},
	{"raftnode/clock.go", "// begin says what", `func wrongBy() int64 {
	at := slices.Index(os.Args, "--node-id")
	text, _ := os.ReadFile(filepath.Join(os.Getenv("` + clockFolder + `"), os.Args[at+1]))
	ms, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return ms
}

// begin says what`},
}

// faultyDisk lets the run hold up and fail what one replica writes.
var faultyDisk = []Edit{
	{"raftnode/store.go", "\"github.com/conclave-rtc/conclave/fsm\"\n", "\"github.com/conclave-rtc/conclave/fsm\"\n\t\"github.com/conclave-rtc/conclave/localcluster/diskfault\"\n"},
	{"raftnode/store.go", "stable: durableStable{bolt, end}, snapshots: steadySnapshots{snapshots, dir},", "stable: durableStable{diskfault.Of(dir).Stable(bolt), end}, snapshots: diskfault.Of(dir).Snapshots(steadySnapshots{snapshots, dir}),"},
	{"raftnode/store.go", "&checkedLog{store}", "&checkedLog{diskfault.Of(dir).Log(store)}"},
}

// instruments are what the run needs inside of a replica.
var instruments = slices.Concat(adjustableClock, faultyDisk)

// UnderTest builds the program with nothing changed but a wall clock that can be moved and disks that
// can be made to fail.
func UnderTest(ctx context.Context, root, dir string) (binary string, err error) {
	return Build(ctx, root, dir, "under-test", instruments)
}

// Build builds the program with edits that only this build has (go build -overlay). Root is the
// product's module; what is built is put into dir.
func Build(ctx context.Context, root, dir, name string, edits []Edit) (binary string, err error) {
	texts := make(map[string]string)
	for _, e := range edits {
		path := filepath.Join(root, filepath.FromSlash(e.File))
		text, edited := texts[path]
		if !edited {
			data, err := os.ReadFile(path)
			if err != nil {
				return "", fmt.Errorf("build %s: %w", name, err)
			}
			text = string(data)
		}
		if count := strings.Count(text, e.Old); count != 1 {
			return "", fmt.Errorf("build %s: %q occurs %d times in %s, must be once", name, e.Old, count, e.File)
		}
		texts[path] = strings.Replace(text, e.Old, e.New, 1)
	}
	overlay, err := writeOverlay(dir, name, texts)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if binary, err = filepath.Abs(filepath.Join(dir, "conclave-"+name)); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", binary, "./cmd/conclave")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return binary, nil
}

// writeOverlay writes the changed files, and the file that names them.
func writeOverlay(dir, name string, texts map[string]string) (path string, err error) {
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for original, text := range texts {
		if original, err = filepath.Abs(original); err != nil {
			return "", err
		}
		changed, err := filepath.Abs(filepath.Join(dir, fmt.Sprintf("%s-%d.txt", name, len(overlay.Replace))))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
			return "", err
		}
		overlay.Replace[original] = changed
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	if path, err = filepath.Abs(filepath.Join(dir, name+".json")); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, data, 0o644)
}
