package batch

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestGroupsShareASendAndGetTheirOwnAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		defer close(done)
		var mu sync.Mutex
		var sends [][]int
		b := NewGroupBatcher(Limits{Batch: 5, Queue: 9, InFlight: 1}, done, func(in []int) ([]string, error) {
			mu.Lock()
			sends = append(sends, slices.Clone(in))
			mu.Unlock()
			time.Sleep(time.Second)
			out := make([]string, len(in))
			for i, n := range in {
				out[i] = fmt.Sprint(n)
			}
			return out, nil
		})
		bring := func(group ...int) {
			go func() {
				out, err := b.Do(t.Context(), group)
				if want := fmt.Sprint(group); err != nil || fmt.Sprint(out) != want {
					t.Errorf("%v is answered %v, %v", group, out, err)
				}
			}()
			synctest.Wait()
		}
		bring(0)
		bring(1, 2)
		bring(3, 4)
		bring(5, 6) // one too many for the send with those before
		bring(7, 8, 9)
		if _, err := b.Do(t.Context(), []int{10}); err != ErrFull {
			t.Errorf("ten wait where nine may: %v, want ErrFull", err)
		}
		time.Sleep(time.Minute)
		bring(11, 12, 13, 14, 15, 16, 17) // more than a send takes: alone
		bring(18)
		time.Sleep(time.Minute)
		want := [][]int{{0}, {1, 2, 3, 4}, {5, 6, 7, 8, 9}, {11, 12, 13, 14, 15, 16, 17}, {18}}
		mu.Lock()
		defer mu.Unlock()
		if !slices.EqualFunc(sends, want, slices.Equal) {
			t.Errorf("sends %v, want %v", sends, want)
		}
	})
}
