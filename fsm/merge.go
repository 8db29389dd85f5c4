package fsm

import "iter"

// merge yields the items of two ordered sequences in order.
func merge[T any](a, b iter.Seq[T], less func(x, y T) bool, yield func(T) bool) {
	next, stop := iter.Pull(b)
	defer stop()
	y, more := next()
	done := false
	a(func(x T) bool {
		for more && less(y, x) {
			if !yield(y) {
				done = true
				return false
			}
			y, more = next()
		}
		done = !yield(x)
		return !done
	})
	for !done && more {
		done = !yield(y)
		y, more = next()
	}
}
