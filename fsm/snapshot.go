package fsm

import (
	"bufio"
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

// seal is the state hash with the index and term that it belongs to, which the hash leaves out.
func (s *State) seal() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(s.hash(), s.index), s.term)
}
