package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"unsafe"

	"google.golang.org/protobuf/proto"

	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
)

// someState is a small state with records of every kind.
func someState(t failer) *State {
	t.Helper()
	r := fleet(t)
	r.apply(2000,
		&commandv1.Lead{NodeId: "gc-1", Term: 1},
		&commandv1.AnnounceMember{NodeId: "gc-1", GrpcAddress: "10.0.0.1:50051", CommandVersion: 1})
	r.must(5000, assign("m-1", 1))
	r.must(5000, assign("m-2", 2))
	r.must(6000, endOf("m-1", 1, "done"))
	return r.machine.Snapshot()
}

func TestSnapshotRoundTrip(t *testing.T) {
	for name, s := range map[string]*State{"empty": NewMachine(nil).Snapshot(), "small": someState(t), "larger": crowd(t)} {
		again := restored(t, s)
		if again.Hash() != s.Hash() || again.Index() != s.Index() || again.Term() != s.Term() ||
			again.TimeMs() != s.TimeMs() || again.Leader() != s.Leader() || again.Counts() != s.Counts() {
			t.Errorf("%s: %+v became %+v", name, s.Counts(), again.Counts())
		}
		if !bytes.Equal(written(t, s), written(t, again)) {
			t.Errorf("%s: written again, the snapshot is another", name)
		}
		checkInvariants(t, again)
	}
}

func TestEveryDamagedByteIsNoticed(t *testing.T) {
	good := written(t, someState(t))
	for i := range good {
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			checkRefused(t, bad)
		}
		checkRefused(t, good[:i])
	}
	checkRefused(t, append(bytes.Clone(good), 0))
	checkRefused(t, append(bytes.Clone(good), good...))
}

func checkRefused(t *testing.T, data []byte) {
	t.Helper()
	s, err := ReadSnapshot(bytes.NewReader(data))
	if s != nil || !errors.Is(err, ErrDamagedSnapshot) && !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("%d damaged bytes gave %v, %v", len(data), s, err)
	}
}

// frames are the records of a snapshot, one frame each.
func frames(t failer, data []byte) [][]byte {
	t.Helper()
	var all [][]byte
	for rest := data[len(snapshotMagic):]; len(rest) > 0; {
		size, n := binary.Uvarint(rest)
		all = append(all, rest[:n+int(size)])
		rest = rest[n+int(size):]
	}
	return all
}

func TestLostAndRepeatedRecordsAreNoticed(t *testing.T) {
	all := frames(t, written(t, someState(t)))
	rebuild := func(frames ...[][]byte) []byte {
		data := []byte(snapshotMagic)
		for _, part := range frames {
			data = append(data, bytes.Join(part, nil)...)
		}
		return data
	}
	for i := range all {
		checkRefused(t, rebuild(all[:i], all[i+1:]))
		checkRefused(t, rebuild(all[:i+1], all[i:]))
	}
}

func TestAFrameThatClaimsTooMuchIsRefused(t *testing.T) {
	checkRefused(t, binary.AppendUvarint([]byte(snapshotMagic), 1<<40))
}

func TestASnapshotOfALaterFormatSaysSo(t *testing.T) {
	frame := func(r *commandv1.SnapshotRecord) []byte {
		body, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return append(binary.AppendUvarint([]byte(snapshotMagic), uint64(len(body))), body...)
	}
	for name, data := range map[string][]byte{
		"a later format": frame(&commandv1.SnapshotRecord{Record: &commandv1.SnapshotRecord_Header{
			Header: &commandv1.SnapshotHeader{Format: snapshotFormat + 1}}}),
		"a record of no kind": frame(&commandv1.SnapshotRecord{}),
	} {
		if _, err := ReadSnapshot(bytes.NewReader(data)); !errors.Is(err, ErrUnknownCommand) {
			t.Errorf("%s: %v, want ErrUnknownCommand", name, err)
		}
	}
}

// fullDisk takes some bytes and then fails.
type fullDisk struct{ room int }

var errFull = errors.New("no space left")

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAFailingDiskFailsTheSnapshot(t *testing.T) {
	s := crowd(t)
	if err := WriteSnapshot(&fullDisk{room: 100}, s); !errors.Is(err, errFull) {
		t.Errorf("%v, want the disk's own error", err)
	}
}

// slowReader gives a byte or two at a time, as a network may.
type slowReader struct {
	r      io.Reader
	random *rand.Rand
}

func (s slowReader) Read(p []byte) (int, error) {
	return s.r.Read(p[:min(len(p), 1+s.random.IntN(2))])
}

func TestReadingInPieces(t *testing.T) {
	s := someState(t)
	again, err := ReadSnapshot(slowReader{bytes.NewReader(written(t, s)), rand.New(rand.NewPCG(5, 6))})
	if err != nil || again.Hash() != s.Hash() {
		t.Errorf("read in pieces: %v", err)
	}
}

// A million meetings name a few thousand nodes: each name must be in memory once.
func TestAssignmentsShareTheStringsOfNodes(t *testing.T) {
	applied := fleet(t)
	applied.must(5000, assign("m", 1))
	for how, s := range map[string]*State{"applied": applied.state(), "restored": restored(t, applied.state())} {
		a, mc, mh := s.LiveAssignment(meetingKey("m")), s.Node(MeetingController, "mc-1"), s.Node(MediaHandler, "mh-1")
		for _, pair := range [][2]string{
			{a.MCID, mc.ID}, {a.Region, mc.Region}, {a.MCGRPCEndpoint, mc.GRPCEndpoint},
			{a.MediaHandlers[0].ID, mh.ID}, {a.MediaHandlers[0].WebTransportEndpoint, mh.WebTransportEndpoint},
		} {
			if unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
				t.Errorf("%s: the assignment has a %q of its own", how, pair[0])
			}
		}
	}
}
