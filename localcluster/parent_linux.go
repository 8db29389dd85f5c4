package localcluster

import "syscall"

// apart keeps a terminal's Ctrl-C from a replica: its parent decides when it ends. If that is killed,
// the kernel kills the replica too.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
