package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// ReadSnapshot reads a state. Damaged bytes are an ErrDamagedSnapshot, never a panic and never
// a state. It does not read on after it has returned.
func ReadSnapshot(r io.Reader) (*State, error) {
	sr := &snapshotReader{r: bufio.NewReaderSize(r, 1<<18)}
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(sr.r, magic); err != nil || string(magic) != snapshotMagic {
		return nil, damaged("it does not begin like one")
	}
	first, err := sr.next()
	if err != nil {
		return nil, err
	}
	header := first.GetHeader()
	if header == nil {
		return nil, damaged("it has no header")
	}
	if header.Format != snapshotFormat {
		return nil, fmt.Errorf("the snapshot has format %d, this version reads %d: %w", header.Format, snapshotFormat, ErrUnknownCommand)
	}
	s := NewState()
	s.index, s.term, s.stampMs, s.leader = header.Index, header.Term, header.StampUnixMs, header.LeaderId
	if err := sr.restore(s); err != nil {
		return nil, err
	}
	return s, nil
}

type snapshotReader struct {
	r       *bufio.Reader
	buf     []byte
	n       uint64
	trailer *commandv1.SnapshotTrailer
}

func (sr *snapshotReader) next() (*commandv1.SnapshotRecord, error) {
	if err := sr.frame(); err != nil {
		return nil, err
	}
	return sr.decode()
}

// frame reads the bytes of the next record.
func (sr *snapshotReader) frame() error {
	size, err := binary.ReadUvarint(sr.r)
	if err != nil {
		return damaged("it ends after %d records", sr.n)
	}
	if size > maxFrame {
		return damaged("record %d claims %d bytes", sr.n, size)
	}
	if uint64(cap(sr.buf)) < size {
		sr.buf = make([]byte, size)
	}
	sr.buf = sr.buf[:size]
	if _, err := io.ReadFull(sr.r, sr.buf); err != nil {
		return damaged("it ends inside record %d", sr.n)
	}
	return nil
}

func (sr *snapshotReader) decode() (*commandv1.SnapshotRecord, error) {
	rec := new(commandv1.SnapshotRecord)
	if err := proto.Unmarshal(sr.buf, rec); err != nil {
		return nil, damaged("record %d does not decode: %v", sr.n, err)
	}
	if rec.Record == nil || hasUnknown(rec) {
		return nil, fmt.Errorf("record %d of the snapshot: %w", sr.n, ErrUnknownCommand)
	}
	sr.n++
	return rec, nil
}

const (
	// readAhead is how many groups of records are read while one is put into the state.
	readAhead = 4
	groupSize = 256
)

// record is a member, a node or an assignment.
type record struct {
	member     *Member
	node       *Node
	assignment *Assignment
}

// restore reads what follows the header, up to the end. Reading a record takes as long as putting it
// into the state, so each has a goroutine.
func (sr *snapshotReader) restore(s *State) error {
	groups := make(chan []record, readAhead)
	failed := make(chan error, 1)
	go func() {
		defer close(groups)
		failed <- sr.read(groups)
	}()
	for group := range groups {
		for _, r := range group {
			s.restore(r)
		}
	}
	if err := <-failed; err != nil {
		return err
	}
	return sr.check(s)
}

// read reads records up to and with the trailer.
func (sr *snapshotReader) read(groups chan<- []record) error {
	for sr.trailer == nil {
		group := make([]record, 0, groupSize)
		for len(group) < groupSize && sr.trailer == nil {
			r, err := sr.record()
			if err != nil {
				return err
			}
			group = append(group, r)
		}
		groups <- group
	}
	return nil
}

// record reads one record. The trailer is kept, and comes as one of nothing.
func (sr *snapshotReader) record() (record, error) {
	if err := sr.frame(); err != nil {
		return record{}, err
	}
	if a := decodeAssignmentQuickly(sr.buf); a != nil {
		sr.n++
		a.sum = a.digest()
		return record{assignment: a}, nil
	}
	rec, err := sr.decode()
	if err != nil {
		return record{}, err
	}
	switch r := rec.Record.(type) {
	case *commandv1.SnapshotRecord_Member:
		return record{member: decodeMember(r.Member)}, nil
	case *commandv1.SnapshotRecord_Node:
		if !knownKind(r.Node.Kind) {
			return record{}, damaged("record %d is a node of no kind", sr.n-1)
		}
		return record{node: decodeNode(r.Node)}, nil
	case *commandv1.SnapshotRecord_Assignment:
		a := decodeAssignment(r.Assignment)
		a.sum = a.digest()
		return record{assignment: a}, nil
	case *commandv1.SnapshotRecord_Trailer:
		sr.trailer = r.Trailer
		return record{}, nil
	default:
		return record{}, damaged("record %d is a second header", sr.n-1)
	}
}

func (sr *snapshotReader) check(s *State) error {
	t := sr.trailer
	if t.Records != sr.n-1 {
		return damaged("it has %d records, its trailer says %d", sr.n-1, t.Records)
	}
	if !bytes.Equal(t.StateHash, s.seal()) {
		return damaged("its state hash, index and term are %x, its trailer says %x", s.seal(), t.StateHash)
	}
	if _, err := sr.r.ReadByte(); err != io.EOF {
		return damaged("something follows the trailer")
	}
	s.indexLive()
	return nil
}

func (s *State) restore(r record) {
	switch {
	case r.member != nil:
		s.setMember(r.member)
	case r.node != nil:
		s.setNode(r.node)
	case r.assignment != nil:
		s.shareStrings(r.assignment)
		if r.assignment.Live() {
			s.restoreLive(r.assignment)
		} else {
			s.addEnded(r.assignment)
		}
	}
}
