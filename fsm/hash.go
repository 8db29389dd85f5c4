package fsm

import (
	"encoding/binary"
	"math"

	"github.com/cespare/xxhash/v2"
)

// sum is a 128-bit hash of a record. The state hash is the sum of the records' sums, lane by
// lane: it does not depend on order, and an update costs the records that changed (Bellare and
// Micciancio, "A New Paradigm for Collision-Free Hashing", AdHash). It finds divergence; it is
// not meant against forgery.
type sum [2]uint64

func (s sum) add(o sum) sum { return sum{s[0] + o[0], s[1] + o[1]} }
func (s sum) sub(o sum) sum { return sum{s[0] - o[0], s[1] - o[1]} }

// encoder is fields, written so that no two different records have the same bytes. Its methods
// return it longer, as append does, so that one with room on the stack stays there.
type encoder []byte

func (e encoder) str(v string) encoder {
	return append(binary.AppendUvarint(e, uint64(len(v))), v...)
}

func (e encoder) u64(v uint64) encoder {
	return binary.AppendUvarint(e, v)
}

func (e encoder) u32(v uint32) encoder { return e.u64(uint64(v)) }
func (e encoder) i64(v int64) encoder  { return e.u64(uint64(v)) }
func (e encoder) f32(v float32) encoder {
	return e.u32(math.Float32bits(v))
}

func (e encoder) sum() sum {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(e) // it never fails
	low := d.Sum64()
	_, _ = d.Write([]byte{0xc0})
	return sum{low, d.Sum64()}
}

// Each kind of record begins with a letter of its own.

func (n *Node) digest() sum {
	e := encoder(make([]byte, 0, 448))
	if n.Reported == [maxSessions]ReportSession{} {
		e = e.str("n") // as a version that knows no sessions writes it
	} else {
		e = e.str("s")
		for _, r := range n.Reported {
			e = e.u64(r.ID).u64(r.Sequence)
		}
	}
	e = e.u32(uint32(n.Kind)).str(n.ID).str(n.Region).str(n.Zone)
	e = e.str(n.GRPCEndpoint).str(n.WebTransportEndpoint).u32(uint32(n.Dialect))
	e = e.u32(n.Capacity).u32(n.Used).u32(n.MaxParticipants).u32(n.Participants)
	e = e.f32(n.CPUPercent).f32(n.MemoryPercent).f32(n.BandwidthPercent).u32(uint32(n.Health))
	e = e.u64(n.RegistrationID).u64(n.Incarnation).i64(n.RegisteredAtMs)
	e = e.u64(n.HeardIndex).i64(n.LastReportMs)
	for _, p := range n.Placements {
		e = e.i64(p.UnixSeconds).u32(p.Count)
	}
	return e.sum()
}

func (a *Assignment) digest() sum {
	e := encoder(make([]byte, 0, 512))
	if a.Request == 0 {
		e = e.str("a") // as a version that knows no requests writes it
	} else {
		e = e.str("e").u64(a.Request)
	}
	e = e.str(a.Region).str(a.MeetingID).u64(a.Token)
	e = e.str(a.MCID).u64(a.MCIncarnation).str(a.MCGRPCEndpoint).str(a.MCWebTransportEndpoint)
	e = e.str(a.AssignedBy).i64(a.AssignedAtMs).i64(a.EndedAtMs).str(a.EndReason)
	for _, mh := range a.MediaHandlers {
		e = e.str(mh.ID).str(mh.WebTransportEndpoint).str(mh.GRPCEndpoint)
	}
	return e.sum()
}

func (m *Member) digest() sum {
	return encoder(nil).str("m").str(m.ID).str(m.GRPCAddress).u32(m.CommandVersion).sum()
}
