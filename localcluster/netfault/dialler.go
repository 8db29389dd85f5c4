package netfault

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dialler names the process at the other end of an accepted connection: the one that holds the
// socket with that local port.
func (n *Network) dialler(conn net.Conn) string {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return Anyone
	}
	inode := socketInode(addr.Port, conn.LocalAddr().(*net.TCPAddr).Port)
	if inode == "" {
		return Anyone
	}
	n.mu.Lock()
	pids := make(map[string]int, len(n.pids))
	for name, pid := range n.pids {
		pids[name] = pid()
	}
	n.mu.Unlock()
	for name, pid := range pids {
		if pid != 0 && holds(pid, inode) {
			return name
		}
	}
	return Anyone
}

// socketInode finds the socket of a connection between two ports of this machine, as its dialler
// has it. The fields of /proc/net/tcp: sl local_address rem_address st queues timers retrnsmt uid
// timeout inode (proc(5)). A Go dialler may use either family of addresses.
func socketInode(local, remote int) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		defer f.Close()
		localPort, remotePort := fmt.Sprintf(":%04X", local), fmt.Sprintf(":%04X", remote)
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) > 9 && strings.HasSuffix(fields[1], localPort) && strings.HasSuffix(fields[2], remotePort) {
				return fields[9]
			}
		}
	}
	return ""
}

func holds(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	want := "socket:[" + inode + "]"
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil && link == want {
			return true
		}
	}
	return false
}
