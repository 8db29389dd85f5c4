//go:build !linux

package localcluster

import "syscall"

// dieWithParent: other systems have no such thing; replicas outlive a parent that was killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
