package raftnode

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatermarkWakesThoseWhoseIndexIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w watermark
		w.advance(3)
		if err := w.wait(t.Context(), nil, 3); err != nil {
			t.Fatalf("waiting for an index that is reached: %v", err)
		}
		woken := make(chan uint64, 3)
		for _, index := range []uint64{9, 5, 7} {
			go func() {
				if err := w.wait(t.Context(), nil, index); err == nil {
					woken <- index
				}
			}()
		}
		synctest.Wait()
		w.advance(7)
		synctest.Wait()
		if len(woken) != 2 {
			t.Fatalf("index 7 woke %d waiters, want those of 5 and 7", len(woken))
		}
		w.advance(6) // the mark never falls
		if err := w.wait(t.Context(), nil, 7); err != nil {
			t.Fatal(err)
		}
		w.advance(9)
		synctest.Wait()
		if len(woken) != 3 {
			t.Fatalf("index 9 woke %d waiters in all, want 3", len(woken))
		}
	})
}

func TestWatermarkWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w watermark
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.wait(ctx, nil, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the deadline", err)
		}
		if len(w.waiters) != 0 {
			t.Error("a waiter that gave up is kept: its index may never come")
		}
		closed := make(chan struct{})
		close(closed)
		if err := w.wait(t.Context(), closed, 1); !errors.Is(err, errClosed) {
			t.Errorf("got %v, want errClosed", err)
		}
	})
}
