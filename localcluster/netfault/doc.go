// Package netfault stands between processes of this machine that speak TCP to each other, and cuts,
// holds up or breaks what one of them says to another one: a proxy in front of every server that
// finds out which process dialled it. It needs no root and changes nothing in the processes, which
// only must be told the proxies' addresses.
//
// It knows nothing of what the processes say. Who dialled is read from /proc: on systems without it,
// everybody is a stranger, and only rules for strangers apply.
package netfault
