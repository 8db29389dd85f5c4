//go:build !linux

package etcdcluster

import "syscall"

// dieWithParent: other systems have no such thing; members outlive a parent that was killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
