//go:build !unix

package localcluster

import "syscall"

// apart: other systems have no such thing.
func apart() *syscall.SysProcAttr { return nil }
