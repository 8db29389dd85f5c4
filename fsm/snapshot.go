package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// A snapshot is a magic line and then frames: a length (uvarint) and a SnapshotRecord. The
// first record is a header, the last a trailer with the number of records and the seal, so that
// a snapshot that reads well but tells something else is refused too.

const (
	snapshotMagic  = "conclave snapshot\n"
	snapshotFormat = 1
	// maxFrame is far above any record; a damaged length must not make us allocate.
	maxFrame = 1 << 20
)

// ErrDamagedSnapshot says that a snapshot is not what was written.
var ErrDamagedSnapshot = errors.New("the snapshot is damaged")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamagedSnapshot, fmt.Sprintf(format, args...))
}

// WriteSnapshot writes the state. The state must not change meanwhile: it is one that
// Machine.Snapshot returned.
func WriteSnapshot(w io.Writer, s *State) error {
	sw := &snapshotWriter{w: bufio.NewWriterSize(w, 1<<18)}
	_, sw.err = sw.w.WriteString(snapshotMagic)
	sw.record(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Header{
		Header: &commandv1.SnapshotHeader{
			Format: snapshotFormat, Index: s.index, Term: s.term,
			StampUnixMs: s.stampMs, LeaderId: s.leader,
		}}})
	s.members.Scan(func(_ string, m *Member) bool { return sw.member(m) })
	s.mhs.Scan(func(_ string, n *Node) bool { return sw.node(n) })
	s.mcs.Scan(func(_ string, n *Node) bool { return sw.node(n) })
	s.ended.Scan(sw.assignment)
	s.live.Scan(func(i liveItem) bool { return sw.assignment(i.a) })
	sw.record(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Trailer{
		Trailer: &commandv1.SnapshotTrailer{Records: sw.records, StateHash: s.seal()}}})
	if sw.err == nil {
		sw.err = sw.w.Flush()
	}
	if sw.err != nil {
		return fmt.Errorf("write snapshot: %w", sw.err)
	}
	return nil
}

// snapshotWriter keeps its first error. It uses its buffers again for every record: a million
// records that are garbage at once would have the collector take processor time from Apply.
type snapshotWriter struct {
	w       *bufio.Writer
	buf     []byte
	length  [binary.MaxVarintLen64]byte
	assigns commandv1.Assignment
	records uint64
	err     error
}

// yieldEvery is after how many records the writer lets others run: Go would let it compute for
// ten milliseconds where Apply waits for the processor.
const yieldEvery = 128

func (sw *snapshotWriter) record(r *commandv1.SnapshotRecord) bool {
	if sw.err != nil {
		return false
	}
	sw.buf, sw.err = proto.MarshalOptions{}.MarshalAppend(sw.buf[:0], r)
	if sw.err == nil {
		_, sw.err = sw.w.Write(binary.AppendUvarint(sw.length[:0], uint64(len(sw.buf))))
	}
	if sw.err == nil {
		_, sw.err = sw.w.Write(sw.buf)
	}
	if sw.records++; sw.records%yieldEvery == 0 {
		runtime.Gosched()
	}
	return sw.err == nil
}

func (sw *snapshotWriter) member(m *Member) bool {
	return sw.record(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Member{Member: encodeMember(m)}})
}

func (sw *snapshotWriter) node(n *Node) bool {
	return sw.record(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Node{Node: encodeNode(n)}})
}

func (sw *snapshotWriter) assignment(a *Assignment) bool {
	return sw.record(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Assignment{
		Assignment: encodeAssignment(&sw.assigns, a)}})
}

// ReadSnapshot reads a state. Damaged bytes are an ErrDamagedSnapshot, never a panic and never
// a state.
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
	if err := sr.records(s); err != nil {
		return nil, err
	}
	return s, nil
}

type snapshotReader struct {
	r   *bufio.Reader
	buf []byte
	n   uint64
}

func (sr *snapshotReader) next() (*commandv1.SnapshotRecord, error) {
	size, err := binary.ReadUvarint(sr.r)
	if err != nil {
		return nil, damaged("it ends after %d records", sr.n)
	}
	if size > maxFrame {
		return nil, damaged("record %d claims %d bytes", sr.n, size)
	}
	if uint64(cap(sr.buf)) < size {
		sr.buf = make([]byte, size)
	}
	sr.buf = sr.buf[:size]
	if _, err := io.ReadFull(sr.r, sr.buf); err != nil {
		return nil, damaged("it ends inside record %d", sr.n)
	}
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

// records reads what follows the header, up to and with the trailer.
func (sr *snapshotReader) records(s *State) error {
	for {
		rec, err := sr.next()
		if err != nil {
			return err
		}
		switch r := rec.Record.(type) {
		case *commandv1.SnapshotRecord_Member:
			s.setMember(decodeMember(r.Member))
		case *commandv1.SnapshotRecord_Node:
			if !knownKind(r.Node.Kind) {
				return damaged("record %d is a node of no kind", sr.n-1)
			}
			s.setNode(decodeNode(r.Node))
		case *commandv1.SnapshotRecord_Assignment:
			s.restoreAssignment(decodeAssignment(r.Assignment))
		case *commandv1.SnapshotRecord_Trailer:
			return sr.check(s, r.Trailer)
		default:
			return damaged("record %d is a second header", sr.n-1)
		}
	}
}

func (sr *snapshotReader) check(s *State, t *commandv1.SnapshotTrailer) error {
	if t.Records != sr.n-1 {
		return damaged("it has %d records, its trailer says %d", sr.n-1, t.Records)
	}
	if !bytes.Equal(t.StateHash, s.seal()) {
		return damaged("its state hash, index and term are %x, its trailer says %x", s.seal(), t.StateHash)
	}
	if _, err := sr.r.ReadByte(); err != io.EOF {
		return damaged("something follows the trailer")
	}
	s.indexByController()
	return nil
}

// seal is the state hash with the index and term that it belongs to, which the hash leaves out.
func (s *State) seal() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(s.hash(), s.index), s.term)
}

// restoreAssignment leaves the index by controller to the end.
func (s *State) restoreAssignment(a *Assignment) {
	s.shareStrings(a)
	if a.Live() {
		s.putLive(a)
	} else {
		s.addEnded(a)
	}
}
