// Package measure drives callers against a system and says how fast it answered. It knows nothing
// of what it measures, so that one yardstick serves systems that are compared.
//
// It must never take a lock, or write to the screen, while it measures, and never leave out the
// calls that a stall kept from being made or from ending in time.
package measure
