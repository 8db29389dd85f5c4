package machine

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Facts are what figures depend on and do not tell themselves.
type Facts struct {
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	Kernel      string `json:"kernel"`
	Go          string `json:"go"`
	LoadAverage string `json:"load_average_before"`
	// FsyncP50 and FsyncP99 are of appending 256 bytes, in the folder of the replicas' disks.
	FsyncP50 time.Duration `json:"fsync_p50_ns"`
	FsyncP99 time.Duration `json:"fsync_p99_ns"`
}

// Read reads the facts of this machine; dir is the folder of the replicas' disks, in which it times a
// file for about a second.
func Read(dir string) (*Facts, error) {
	f := &Facts{
		CPU: cpuModel(), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Kernel: firstLine("/proc/sys/kernel/osrelease"), LoadAverage: firstLine("/proc/loadavg"),
	}
	var err error
	f.FsyncP50, f.FsyncP99, err = timeFsync(dir)
	return f, err
}

// String is one line for people.
func (f *Facts) String() string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s; append of 256 B with fsync: p50 %v, p99 %v; load average before: %s",
		f.CPU, f.Cores, f.Kernel, f.Go, f.FsyncP50.Round(time.Microsecond), f.FsyncP99.Round(time.Microsecond), f.LoadAverage)
}

// unknown stands for what a system does not tell.
const unknown = "unknown"

func cpuModel() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

func firstLine(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	line, _, _ := strings.Cut(string(content), "\n")
	return line
}

// timeFsync tells a real disk from one in memory.
func timeFsync(dir string) (p50, p99 time.Duration, err error) {
	file, err := os.Create(filepath.Join(dir, fmt.Sprintf("bench-fsync-%d", os.Getpid())))
	if err != nil {
		return 0, 0, fmt.Errorf("time fsync: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	const appends = 500
	took := make([]time.Duration, appends)
	for i := range took {
		began := time.Now()
		if _, err := file.Write(make([]byte, 256)); err != nil {
			return 0, 0, fmt.Errorf("time fsync: %w", err)
		}
		if err := file.Sync(); err != nil {
			return 0, 0, fmt.Errorf("time fsync: %w", err)
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[appends/2], took[appends*99/100], nil
}
