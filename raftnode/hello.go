package raftnode

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hashicorp/raft"
)

// Every connection between replicas begins with a hello of the side that dialled, and an answer. Both
// are one frame: a magic with the version, a length, and JSON.

const (
	helloMagic = "conclave\x01"
	// maxHello is more than an initial cluster of seven replicas with the longest names needs.
	maxHello = 4 << 10
)

// purpose is what a connection is for.
type purpose string

const (
	// forRaft: Raft's requests follow.
	forRaft purpose = "raft"
	// forStanding asks where the dialling replica stands; the connection ends with the answer.
	forStanding purpose = "standing"
)

// hello says who calls whom, and why.
type hello struct {
	Purpose purpose       `json:"purpose"`
	From    raft.ServerID `json:"from"`
	// To is the server that Raft means to reach; empty for one without an instance. Who asks for
	// its standing knows only the node id.
	To raft.ServerID `json:"to,omitempty"`
	// Joined: the caller belongs to Cluster. (Clusters from before clusters had ids have none.)
	Joined  bool   `json:"joined,omitempty"`
	Cluster string `json:"cluster,omitempty"`

	// The rest is for forStanding: where the caller is reached, and the node ids of its initial
	// cluster.
	Address string   `json:"address,omitempty"`
	Initial []string `json:"initial,omitempty"`
}

// standing is where a caller stands, in the eyes of who answers.
type standing string

const (
	// standingWelcome: Raft's requests may follow.
	standingWelcome standing = "welcome"
	// standingNew: who answers is new itself.
	standingNew standing = "new"
	// standingMember: the caller is in the configuration.
	standingMember standing = "member"
	// standingWaiting: the leader must decide, or is about to admit the caller.
	standingWaiting standing = "waiting"
	// standingReplaced: another data folder has taken the caller's place. Only a leader says so.
	standingReplaced standing = "replaced"
	// standingRefused: somebody must correct something.
	standingRefused standing = "refused"
)

// answer is what the side that was called says.
type answer struct {
	From     raft.ServerID `json:"from"`
	Joined   bool          `json:"joined,omitempty"`
	Cluster  string        `json:"cluster,omitempty"`
	Standing standing      `json:"standing"`
	// Reason is for people.
	Reason string `json:"reason,omitempty"`
	// Leader is the node id of the leader that the answering replica knows.
	Leader string `json:"leader,omitempty"`
	// Initial are the node ids of a new replica's initial cluster.
	Initial []string `json:"initial,omitempty"`
}

func (a answer) refuse(format string, args ...any) answer {
	a.Standing, a.Reason = standingRefused, fmt.Sprintf(format, args...)
	return a
}

var errNoHello = errors.New("it does not begin with a hello: it is no replica of Conclave, or one of another version")

// writeFrame sends a hello or an answer.
func writeFrame(w io.Writer, message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode hello: %w", err)
	}
	if len(body) > maxHello {
		return fmt.Errorf("encode hello: it has %d bytes, at most %d are allowed", len(body), maxHello)
	}
	frame := append([]byte(helloMagic), 0, 0)
	binary.BigEndian.PutUint16(frame[len(helloMagic):], uint16(len(body)))
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	return nil
}

// readFrame reads a hello or an answer, and not a byte of what follows.
func readFrame(r io.Reader, message any) error {
	var head [len(helloMagic) + 2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	if string(head[:len(helloMagic)]) != helloMagic {
		return errNoHello
	}
	size := binary.BigEndian.Uint16(head[len(helloMagic):])
	if size > maxHello {
		return fmt.Errorf("read hello: it claims %d bytes, at most %d are allowed", size, maxHello)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	if err := json.Unmarshal(body, message); err != nil {
		return fmt.Errorf("decode hello: %w", err)
	}
	return nil
}

// readHello reads what the dialling side says first.
func readHello(r io.Reader) (hello, error) {
	var h hello
	if err := readFrame(r, &h); err != nil {
		return hello{}, err
	}
	switch {
	case h.Purpose != forRaft && h.Purpose != forStanding:
		return hello{}, fmt.Errorf("hello: unknown purpose %q", h.Purpose)
	case nodeOf(h.From) == "" || strings.Contains(string(h.From), addressMark):
		return hello{}, fmt.Errorf("hello: %q is no replica", h.From)
	case h.Purpose == forStanding && (h.Address == "" || strings.Contains(h.Address, addressMark)):
		return hello{}, fmt.Errorf("hello: %q is no address", h.Address)
	}
	return h, nil
}

// readAnswer reads what the other side says.
func readAnswer(r io.Reader) (answer, error) {
	var a answer
	if err := readFrame(r, &a); err != nil {
		return answer{}, err
	}
	return a, nil
}
