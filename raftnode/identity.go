package raftnode

import (
	"crypto/rand"
	"encoding/hex"
	"strings"

	"github.com/hashicorp/raft"
)

// Raft stands on one promise: a server never forgets what it voted for and what it acknowledged. A
// replica that lost its disk and comes back under its old id breaks it, for it would vote as if it
// remembered. Raft has a way out: a server that forgets is another server. So Raft knows a replica
// not by its node id but by a server id that is used once: the node id with an instance that was
// drawn when the data folder was made. A folder that is made anew is a new server. It has no vote
// until the configuration names it, and none of the configurations before does; neither those that
// other replicas still have, nor those that it reads itself when it gets the log from its first
// entry on.
//
// The server id is also in the address by which Raft calls a server, so that every connection is
// addressed to one instance, and no other one answers in its place.

// instanceBytes are enough never to be drawn twice.
const instanceBytes = 8

// drawID draws an instance, or the id of a cluster.
func drawID() string {
	var id [instanceBytes]byte
	_, _ = rand.Read(id[:]) // it never fails
	return hex.EncodeToString(id[:])
}

// Node ids have neither of these.
const (
	instanceMark = "."
	addressMark  = "@"
)

// serverID is the name of a replica in Raft. Folders from before there were instances have none:
// they are called by their node id.
func serverID(nodeID, instance string) raft.ServerID {
	if instance == "" {
		return raft.ServerID(nodeID)
	}
	return raft.ServerID(nodeID + instanceMark + instance)
}

// nodeOf is the node id of a server.
func nodeOf(id raft.ServerID) string {
	node, _, _ := strings.Cut(string(id), instanceMark)
	return node
}

func hasInstance(id raft.ServerID) bool { return strings.Contains(string(id), instanceMark) }

// serverAddress is the address of a server in Raft.
func serverAddress(id raft.ServerID, address string) raft.ServerAddress {
	if !hasInstance(id) {
		return raft.ServerAddress(address)
	}
	return raft.ServerAddress(string(id) + addressMark + address)
}

// splitAddress returns the server that an address of Raft is for, if it says so, and where it is.
func splitAddress(a raft.ServerAddress) (id raft.ServerID, address string) {
	if name, at, ok := strings.Cut(string(a), addressMark); ok {
		return raft.ServerID(name), at
	}
	return "", string(a)
}
