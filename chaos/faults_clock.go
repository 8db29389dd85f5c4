package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const groupClock = "clock"

var clockFaults = []Fault{
	{Name: "clock-ahead", Group: groupClock, Weight: 1, needs: needInstruments, inflict: jump(1)},
	{Name: "clock-behind", Group: groupClock, Weight: 1, needs: needInstruments, inflict: jump(-1)},
}

// jump moves the wall clock of one replica, often the leader's, by seconds or by hours, and back
// again when it heals.
func jump(sign time.Duration) func(context.Context, *nemesis) error {
	return func(ctx context.Context, n *nemesis) error {
		r, err := n.system.leader(ctx)
		if err != nil {
			return err
		}
		if n.intN(3) == 0 {
			r = n.anyReplica()
		}
		by := sign * n.between(time.Second, time.Minute)
		if n.intN(2) == 0 {
			by *= 60
		}
		n.hit(ctx, fmt.Sprintf("%s %v", r.ID, by.Round(time.Second)))
		if err := n.system.setClock(r.ID, by); err != nil {
			return err
		}
		err = n.hold(ctx, time.Second, 2*time.Second)
		return errors.Join(err, n.system.setClock(r.ID, 0))
	}
}

func (s *System) setClock(replica string, wrongBy time.Duration) error {
	path := filepath.Join(s.clocks, replica)
	if err := os.WriteFile(path+".new", []byte(strconv.FormatInt(wrongBy.Milliseconds(), 10)), 0o644); err != nil {
		return fmt.Errorf("move a clock: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("move a clock: %w", err)
	}
	return nil
}
