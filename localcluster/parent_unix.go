//go:build unix && !linux

package localcluster

import "syscall"

// apart keeps a terminal's Ctrl-C from a replica: its parent decides when it ends. It outlives a parent
// that was killed, as only Linux can do otherwise.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
