//go:build !linux

package postgres

import "syscall"

// attributes: other systems do not tell a server that its parent was killed; it lives on.
func attributes(owner *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: owner}
}
