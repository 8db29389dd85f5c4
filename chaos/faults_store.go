package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-rtc/conclave/localcluster/diskfault"
)

// Faults of the disk that are made inside of a replica, between it and its stores: they need no strace,
// and hit a write as a whole.
var storeFaults = []Fault{
	{Name: "store-slow", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: slowStore},
	{Name: "store-hangs", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: hangingStore},
	{Name: "store-fails", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingStore(diskfault.Fault{Error: "input/output error"})},
	{Name: "store-fails-but-writes", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingStore(diskfault.Fault{Error: "input/output error", Written: true})},
	{Name: "killed-before-a-write", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingStore(diskfault.Fault{Kill: true})},
	{Name: "killed-after-a-write", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingStore(diskfault.Fault{Kill: true, Written: true})},
	{Name: "snapshot-fails", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingSnapshots},
}

// slowStore makes every write of one replica take a while.
func slowStore(ctx context.Context, n *nemesis) error {
	r := n.anyReplica()
	n.hit(ctx, r.ID)
	return n.faulty(r.DataDir, diskfault.Fault{Delay: n.between(5*time.Millisecond, 45*time.Millisecond)}, func() error {
		return n.longEnough(ctx)
	})
}

// hangingStore hangs the leader's next write for longer than it may lead without one.
func hangingStore(ctx context.Context, n *nemesis) error {
	leader, err := n.system.leader(ctx)
	if err != nil {
		return err
	}
	n.hit(ctx, leader.ID)
	return n.faulty(leader.DataDir, diskfault.Fault{Only: diskfault.Log, Once: true, Delay: 4 * time.Second}, func() error {
		return n.hold(ctx, 4*time.Second, 5*time.Second)
	})
}

// failingStore has a write of one replica fail, with which it must end.
func failingStore(f diskfault.Fault) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		r := n.anyReplica()
		f := f
		f.Only, f.After = diskfault.Log, n.intN(50)
		n.hit(ctx, fmt.Sprintf("%s write %d", r.ID, f.After+1))
		ended := false
		if err := n.faulty(r.DataDir, f, func() (err error) {
			ended, err = n.endsByItself(ctx, r, fmt.Sprintf("%+v", f))
			return err
		}); err != nil || !ended {
			return err
		}
		return n.system.start(r)
	}
}

// failingSnapshots lets no replica write a snapshot for a while. They go on without.
func failingSnapshots(ctx context.Context, n *nemesis) error {
	n.hit(ctx, "all")
	replicas := n.system.cluster.Replicas()
	var err error
	for _, r := range replicas {
		err = errors.Join(err, diskfault.Set(r.DataDir, diskfault.Fault{Only: diskfault.Snapshots, Error: "no space left on device"}))
	}
	err = errors.Join(err, n.hold(ctx, 4*time.Second, 6*time.Second))
	for _, r := range replicas {
		if err == nil && !r.Running() {
			err = fmt.Errorf("%s ended because it could not write a snapshot", r.ID)
		}
		err = errors.Join(err, diskfault.Clear(r.DataDir))
	}
	return err
}

// faulty gives a disk a fault while something is done.
func (n *nemesis) faulty(dataDir string, f diskfault.Fault, during func() error) error {
	if err := diskfault.Set(dataDir, f); err != nil {
		return err
	}
	err := during()
	return errors.Join(err, diskfault.Clear(dataDir))
}
