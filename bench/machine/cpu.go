package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/prometheus/procfs"
)

// CPU is processor time, of programs and of the kernel on their behalf. What interrupts take, such as
// those by which the loopback delivers, is nobody's.
type CPU struct {
	Own      time.Duration // of this process
	Children time.Duration // of those it has started, and of theirs
}

// MeasureCPU measures for a time, after a while. The function that it returns waits until then.
func MeasureCPU(after, during time.Duration) func() (CPU, error) {
	type result struct {
		used CPU
		err  error
	}
	measured := make(chan result, 1)
	go func() {
		time.Sleep(after)
		before, err := readCPU()
		if err != nil {
			measured <- result{err: err}
			return
		}
		time.Sleep(during)
		now, err := readCPU()
		measured <- result{CPU{now.Own - before.Own, now.Children - before.Children}, err}
	}()
	return func() (CPU, error) {
		r := <-measured
		return r.used, r.err
	}
}

// readCPU reads what the processes that run have used so far: nothing where there is no /proc.
func readCPU() (CPU, error) {
	processes, err := procfs.AllProcs()
	if errors.Is(err, fs.ErrNotExist) {
		return CPU{}, nil
	}
	if err != nil {
		return CPU{}, fmt.Errorf("look for processes: %w", err)
	}
	stats := make(map[int]procfs.ProcStat)
	for _, p := range processes {
		if stat, err := p.Stat(); err == nil { // else it has just ended
			stats[p.PID] = stat
		}
	}
	var used CPU
	for pid, stat := range stats {
		switch {
		case pid == os.Getpid():
			used.Own = ticks(int(stat.UTime + stat.STime))
		case descends(stats, stat):
			// One that ends is counted with its parent.
			used.Children += ticks(int(stat.UTime+stat.STime) + stat.CUTime + stat.CSTime)
		}
	}
	return used, nil
}

func descends(stats map[int]procfs.ProcStat, stat procfs.ProcStat) bool {
	for ok := true; ok; stat, ok = stats[stat.PPID] {
		if stat.PPID == os.Getpid() {
			return true
		}
	}
	return false
}

// ticks are a hundredth of a second for all programs, whatever the kernel itself counts.
func ticks(n int) time.Duration { return time.Duration(n) * 10 * time.Millisecond }
