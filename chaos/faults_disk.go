package chaos

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
)

var diskFaults = []Fault{
	{Name: "slow-fsync", Group: groupDisk, Weight: 1, needs: needStrace, inflict: slowDisk(slowSync)},
	{Name: "hanging-fsync", Group: groupDisk, Weight: 1, needs: needStrace, inflict: hangingDisk(traced("fsync,fdatasync:delay_enter=4000000:when=1"))},
	{Name: "failing-fsync", Group: groupDisk, Weight: 1, needs: needStrace, inflict: failingDisk(traced("fsync,fdatasync:error=EIO"))},
	{Name: "disk-full", Group: groupDisk, Weight: 1, needs: needStrace, inflict: failingDisk(traced("pwrite64:error=ENOSPC"))},
	{Name: "log-bit-flipped", Group: groupDisk, Weight: 1, inflict: damage(flipInLog)},
	{Name: "log-cut-off", Group: groupDisk, Weight: 1, inflict: damage(cutVotes)},
	{Name: "snapshot-bit-flipped", Group: groupDisk, Weight: 1, inflict: damage(flipInSnapshot)},
	{Name: "replaced-by-empty-disk", Group: groupDisk, Weight: 1, inflict: emptyDisk},
}

func needStrace(Config) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return errors.New("strace is not installed")
	}
	return nil
}

// tampering gives the disk of a replica a fault, says which, and undoes it again.
type tampering func(n *nemesis, r *localcluster.Replica) (what string, undo func() error, err error)

// traced has strace change system calls of a replica.
func traced(inject string) tampering {
	return func(_ *nemesis, r *localcluster.Replica) (string, func() error, error) {
		calls, _, _ := strings.Cut(inject, ":")
		cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null",
			"-e", "trace="+calls, "-e", "inject="+inject, "-p", strconv.Itoa(r.PID()))
		if err := cmd.Start(); err != nil {
			return "", nil, fmt.Errorf("trace %s: %w", r.ID, err)
		}
		return inject, func() error {
			_ = cmd.Process.Signal(syscall.SIGINT) // it lets go of the replica; it ends with it, too
			_ = cmd.Wait()                         // how it ended says nothing
			return nil
		}, nil
	}
}

func slowSync(n *nemesis, r *localcluster.Replica) (string, func() error, error) {
	return traced("fsync,fdatasync:delay_exit="+strconv.Itoa(5000+n.intN(40000)))(n, r)
}

// tamper gives a disk a fault while something is done.
func (n *nemesis) tamper(ctx context.Context, r *localcluster.Replica, with tampering, during func(what string) error) error {
	what, undo, err := with(n, r)
	if err != nil {
		return err
	}
	n.hit(ctx, r.ID+" "+what)
	return errors.Join(during(what), undo())
}

// slowDisk makes every write of one replica take a while.
func slowDisk(with tampering) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		return n.tamper(ctx, n.anyReplica(), with, func(string) error { return n.longEnough(ctx) })
	}
}

// hangingDisk hangs the leader's disk for longer than it may lead without one.
func hangingDisk(with tampering) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		leader, err := n.system.leader(ctx)
		if err != nil {
			return err
		}
		return n.tamper(ctx, leader, with, func(string) error { return n.hold(ctx, 4*time.Second, 5*time.Second) })
	}
}

// failingDisk makes a write of the leader's or a follower's fail, with which it must end.
func failingDisk(with tampering) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		r := n.anyReplica()
		ended := false
		if err := n.tamper(ctx, r, with, func(what string) (err error) {
			ended, err = n.endsByItself(ctx, r, what)
			return err
		}); err != nil || !ended {
			return err
		}
		return n.system.start(r)
	}
}

// endsByItself waits until a replica whose disk fails ends, as it must: what is on the disk is not known
// after that.
func (n *nemesis) endsByItself(ctx context.Context, r *localcluster.Replica, fault string) (ended bool, err error) {
	gone := make(chan struct{})
	go func() {
		_ = r.Wait() // not how it ended counts, but that it did
		close(gone)
	}()
	select {
	case <-gone:
		return true, nil
	case <-time.After(resumeBound):
		if ctx.Err() == nil {
			return false, fmt.Errorf("%s goes on although its disk fails (%s)", r.ID, fault)
		}
		return false, nil // nothing may have been written since the clients left
	}
}

func (n *nemesis) anyReplica() *localcluster.Replica {
	replicas := n.system.cluster.Replicas()
	return replicas[n.intN(len(replicas))]
}

// expendable is a running follower that is not the one whose log the checks read.
func (n *nemesis) expendable(ctx context.Context) (*localcluster.Replica, error) {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range n.system.others(leader, n) {
		if r != n.system.keeper() {
			return r, nil
		}
	}
	return nil, errors.New("no replica can be spared")
}

// damage changes a byte on a follower's disk while it is down. Started again it must refuse, and
// say why, or be whole: the hashes tell. A replica that refused gets its disk back.
func damage(how func(n *nemesis, dataDir string) (string, error)) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		r, err := n.expendable(ctx)
		if err != nil {
			return err
		}
		if err := r.Kill(); err != nil {
			return err
		}
		backup := filepath.Join(n.dir, r.ID+".backup")
		if err := os.RemoveAll(backup); err != nil {
			return err
		}
		if err := os.CopyFS(backup, os.DirFS(r.DataDir)); err != nil {
			return fmt.Errorf("keep the data folder: %w", err)
		}
		what, err := how(n, r.DataDir)
		n.hit(ctx, r.ID+" "+what)
		if errors.Is(err, errNothingToDamage) {
			return n.system.start(r)
		}
		if err != nil {
			return err
		}
		logged, err := os.Stat(r.LogPath)
		if err != nil {
			return err
		}
		if err := n.system.start(r); err != nil {
			return err
		}
		if !n.endsSoon(r) {
			return nil
		}
		if err := clearRefusal(r, logged.Size()); err != nil {
			return fmt.Errorf("%s (%s): %w", r.ID, what, err)
		}
		return n.restore(r, backup)
	}
}

func (n *nemesis) restore(r *localcluster.Replica, backup string) error {
	if err := os.RemoveAll(r.DataDir); err != nil {
		return err
	}
	if err := os.Rename(backup, r.DataDir); err != nil {
		return fmt.Errorf("give the data folder back: %w", err)
	}
	return n.system.start(r)
}

// endsSoon tells whether a replica that was just started refuses its data folder.
func (n *nemesis) endsSoon(r *localcluster.Replica) bool {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		if !r.Running() {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// clearRefusal looks for the line that says what is wrong, in what was logged since.
func clearRefusal(r *localcluster.Replica, since int64) error {
	data, err := os.ReadFile(r.LogPath)
	if err != nil {
		return err
	}
	said := string(data[min(since, int64(len(data))):])
	for _, word := range []string{"damaged", "lost its log", "snapshot"} {
		if strings.Contains(said, word) && !strings.Contains(said, "goroutine ") {
			return nil
		}
	}
	return fmt.Errorf("it ended without saying what is damaged: %.2000s", said)
}

var errNothingToDamage = errors.New("nothing there to damage")

// flipInLog flips a bit in the newest segment of the log, in a part that was written.
func flipInLog(n *nemesis, dataDir string) (string, error) {
	newest, err := newestFile(dataDir, func(path string) bool {
		return strings.HasSuffix(path, ".wal") || filepath.Base(path) == "raft.db"
	})
	if err != nil {
		return "", err
	}
	return n.flipBit(newest)
}

func flipInSnapshot(n *nemesis, dataDir string) (string, error) {
	newest, err := newestFile(dataDir, func(path string) bool { return filepath.Base(path) == "state.bin" })
	if err != nil {
		return "", err
	}
	return n.flipBit(newest)
}

// cutVotes cuts the stable store in half.
func cutVotes(_ *nemesis, dataDir string) (string, error) {
	path := filepath.Join(dataDir, "raft.db")
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return "raft.db", os.Truncate(path, info.Size()/2)
}

func newestFile(dir string, wanted func(path string) bool) (newest string, err error) {
	var at time.Time
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !wanted(path) {
			return err
		}
		info, err := d.Info()
		if err == nil && (info.ModTime().After(at) || strings.HasSuffix(path, ".wal")) {
			newest, at = path, info.ModTime()
		}
		return err
	})
	if err == nil && newest == "" {
		err = errNothingToDamage
	}
	return newest, err
}

// flipBit flips one bit of a byte that is not zero: space that was never written is no damage.
func (n *nemesis) flipBit(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for range 100_000 {
		if at := n.intN(max(len(data), 1)); at < len(data) && data[at] != 0 {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return "", err
			}
			_, err = f.WriteAt([]byte{data[at] ^ 1<<n.intN(8)}, int64(at))
			return fmt.Sprintf("%s byte %d of %d", filepath.Base(path), at, len(data)), errors.Join(err, f.Close())
		}
	}
	return "", errNothingToDamage
}

// emptyDisk replaces a follower by one with the same name and nothing on its disk.
func emptyDisk(ctx context.Context, n *nemesis) error {
	r, err := n.expendable(ctx)
	if err != nil {
		return err
	}
	n.hit(ctx, r.ID)
	if err := r.Kill(); err != nil {
		return err
	}
	if err := os.RemoveAll(r.DataDir); err != nil {
		return err
	}
	if err := n.system.start(r); err != nil {
		return err
	}
	return n.system.awaitReady(ctx, r)
}
