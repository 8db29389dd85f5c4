package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-rtc/conclave/localcluster/netfault"
)

// scripted is a cluster of three whose first leader fails at a known time, and is replaced after
// a known one.
type scripted struct {
	mu      sync.Mutex
	failed  time.Time
	outage  time.Duration
	next    uint64
	written map[string]uint64
	through map[int]bool
}

func (c *scripted) fail() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = time.Now()
	c.through = make(map[int]bool)
}

func (c *scripted) serves() bool {
	return c.failed.IsZero() || time.Since(c.failed) >= c.outage
}

func (c *scripted) replicas() []replica {
	return []replica{{id: "a"}, {id: "b"}, {id: "c"}}
}

func (c *scripted) leader(context.Context) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed.IsZero() {
		return 0, nil
	}
	return 1, nil
}

func (c *scripted) agree(context.Context) error { return nil }

func (c *scripted) write(_ context.Context, through int, key string) (uint64, error) {
	time.Sleep(time.Millisecond)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.serves() {
		return 0, errors.New("no leader")
	}
	if c.through != nil {
		c.through[through] = true
	}
	c.next++
	c.written[key] = c.next
	return c.next, nil
}

func (c *scripted) holds(_ context.Context, w write) (bool, error) {
	return c.written[w.key] == w.proof, nil
}

func (c *scripted) close() error { return nil }

func newScripted(outage time.Duration) *scripted {
	return &scripted{outage: outage, written: make(map[string]uint64)}
}

// failing is a fault of a scripted cluster; end counts how often it is ended.
func failing(c *scripted, lasts time.Duration, ends *int) fault {
	return fault{
		name: "script", lasts: lasts,
		begin: func(context.Context, site) error { c.fail(); return nil },
		end:   func(site) error { *ends++; return nil },
	}
}

func TestTrialMeasuresTheOutage(t *testing.T) {
	for _, c := range []struct {
		name          string
		outage, lasts time.Duration
		outlasted     bool
	}{
		{"a kill", 400 * time.Millisecond, 0, false},
		{"a stop", 400 * time.Millisecond, 3 * time.Second, false},
		{"a stop that is over before writes go on", 3500 * time.Millisecond, 3 * time.Second, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				system, ends := newScripted(c.outage), 0
				tr := trial{fault: failing(system, c.lasts, &ends), cluster: system, site: site{replicas: system.replicas()}}
				const pace = 5 * time.Millisecond
				w := startWriters(t.Context(), system, "w", tr.survivors(), pace)
				began := time.Now()
				o, err := tr.run(t.Context(), w)
				if err != nil {
					t.Fatal(err)
				}
				if o.Gap < c.outage || o.Gap > c.outage+2*pace+time.Millisecond || o.Outlasted != c.outlasted {
					t.Errorf("the outage is %v; measured is %+v", c.outage, o)
				}
				if ends != 1 {
					t.Errorf("the fault was ended %d times", ends)
				}
				if took := time.Since(began); took < calm+max(c.lasts, c.outage) {
					t.Errorf("it was over after %v: the fault did not last", took)
				}
				if system.through[0] || !system.through[1] || !system.through[2] {
					t.Errorf("after the fault, writes went through %v; want the survivors alone", system.through)
				}
				if len(w.written) != len(w.acks) || w.failed["Unknown"] == 0 {
					t.Errorf("%d writes of %d acknowledgements, failed %v", len(w.written), len(w.acks), w.failed)
				}
			})
		})
	}
}

func TestTrialThatCannotBeMeasured(t *testing.T) {
	for _, c := range []struct {
		name   string
		outage time.Duration
		begin  func(*scripted) error
		want   string
	}{
		{"writes never go on", time.Hour, func(s *scripted) error { s.fail(); return nil }, "no write was acknowledged for 30s"},
		{"the fault does not hold", 0, func(*scripted) error { return nil }, "a leads in spite of the fault"},
		{"the fault cannot be made", 0, func(*scripted) error { return errors.New("no such process") }, "no such process"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				system := newScripted(c.outage)
				tr := trial{cluster: system, site: site{replicas: system.replicas()}, fault: fault{
					begin: func(context.Context, site) error { return c.begin(system) },
					end:   func(site) error { return nil },
				}}
				_, err := tr.run(t.Context(), startWriters(t.Context(), system, "w", tr.survivors(), 5*time.Millisecond))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error is %v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestRowFindsWhatWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, ends := newScripted(300*time.Millisecond), 0
		s := system{name: "script", start: func(context.Context, string, *netfault.Network) (cluster, error) { return c, nil }}
		f := failing(c, 0, &ends)
		r, err := measureRow(t.Context(), s, f, 1, t.TempDir(), 5*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Outcomes) != 1 || r.Acknowledged != len(c.written) || !r.LookedForLost || len(r.Lost) != 0 {
			t.Errorf("the row is %+v; %d were written", r, len(c.written))
		}
		delete(c.written, r.written[5].key)
		if err := r.lookForLost(t.Context(), c); err != nil || !slices.Equal(r.Lost, []string{r.written[5].key}) {
			t.Errorf("lost are %v, %v; want %s", r.Lost, err, r.written[5].key)
		}
	})
}
