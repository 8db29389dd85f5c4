package localcluster

import "syscall"

// dieWithParent makes the kernel kill a replica whose parent was killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
