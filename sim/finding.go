package sim

import (
	"fmt"
	"slices"
	"strconv"
)

// maxExamples bounds what a Finding keeps: enough to look into, not a flood.
const maxExamples = 10

// Finding is a count of violations of one rule, with the first few of them.
type Finding struct {
	Count    int
	Examples []string
}

func (f *Finding) add(format string, args ...any) {
	f.Count++
	if len(f.Examples) < maxExamples {
		f.Examples = append(f.Examples, fmt.Sprintf(format, args...))
	}
}

func (f Finding) clone() Finding {
	return Finding{Count: f.Count, Examples: slices.Clone(f.Examples)}
}

// grouped writes a number with a space between thousands.
func grouped(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
