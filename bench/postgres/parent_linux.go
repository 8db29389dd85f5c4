package postgres

import "syscall"

// attributes make the kernel kill a server whose parent was killed; its children end with it.
func attributes(owner *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner, Pdeathsig: syscall.SIGKILL}
}
