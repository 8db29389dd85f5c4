package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-rtc/conclave/localcluster"
	"github.com/conclave-rtc/conclave/localcluster/diskfault"
)

// Faults of the disk that are made inside of a replica, between it and its stores: they need no strace,
// and hit a write as a whole.
var storeFaults = []Fault{
	{Name: "store-slow", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: slowDisk(slowStore)},
	{Name: "store-hangs", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: hangingDisk(stored(diskfault.Fault{Only: diskfault.Log, Once: true, Delay: 4 * time.Second}))},
	{Name: "store-fails", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingDisk(aWrite(diskfault.Fault{Error: "input/output error"}))},
	{Name: "store-fails-but-writes", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingDisk(aWrite(diskfault.Fault{Error: "input/output error", Written: true}))},
	{Name: "killed-before-a-write", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingDisk(aWrite(diskfault.Fault{Kill: true}))},
	{Name: "killed-after-a-write", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingDisk(aWrite(diskfault.Fault{Kill: true, Written: true}))},
	{Name: "snapshot-fails", Group: groupDisk, Weight: 1, needs: needInstruments, inflict: failingSnapshots},
}

// stored gives the stores of a replica a fault.
func stored(f diskfault.Fault) tampering {
	return func(_ *nemesis, r *localcluster.Replica) (string, func() error, error) {
		return fmt.Sprintf("%+v", f), func() error { return diskfault.Clear(r.DataDir) }, diskfault.Set(r.DataDir, f)
	}
}

func slowStore(n *nemesis, r *localcluster.Replica) (string, func() error, error) {
	return stored(diskfault.Fault{Delay: n.between(5*time.Millisecond, 45*time.Millisecond)})(n, r)
}

// aWrite gives a write to the log a fault, one of the next.
func aWrite(f diskfault.Fault) tampering {
	return func(n *nemesis, r *localcluster.Replica) (string, func() error, error) {
		f := f
		f.Only, f.After = diskfault.Log, n.intN(50)
		return stored(f)(n, r)
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
