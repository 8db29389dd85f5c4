// Package flags reads what the command lines of the benchmarks have in common.
package flags

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// List reads known names that are separated by commas.
func List(into *[]string, known ...string) func(string) error {
	return func(text string) error {
		*into = nil
		for name := range strings.SplitSeq(text, ",") {
			if !slices.Contains(known, name) {
				return fmt.Errorf("%q is none of %s", name, strings.Join(known, ", "))
			}
			*into = append(*into, name)
		}
		return nil
	}
}

// Numbers reads numbers above zero that are separated by commas.
func Numbers(into *[]int) func(string) error {
	return func(text string) error {
		*into = nil
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is not a number above zero", part)
			}
			*into = append(*into, n)
		}
		return nil
	}
}
