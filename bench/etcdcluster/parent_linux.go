package etcdcluster

import "syscall"

// dieWithParent makes the kernel kill a member whose parent was killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
