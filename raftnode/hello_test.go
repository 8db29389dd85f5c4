package raftnode

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

func frame(t testing.TB, message any) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := writeFrame(&buf, message); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// rawFrame is a frame with a body of any kind.
func rawFrame(body string) []byte {
	return append([]byte(helloMagic+string([]byte{byte(len(body) >> 8), byte(len(body))})), body...)
}

var goodHello = hello{
	Purpose: forStanding, From: "gc-1.00ff", To: "gc-2", Joined: true, Cluster: "c",
	Address: "host:1", Initial: []string{"gc-1", "gc-2"},
}

func TestReadHello(t *testing.T) {
	for _, tc := range []struct {
		name string
		data []byte
		want string // in the error; empty: it reads
	}{
		{name: "good", data: frame(t, goodHello)},
		{name: "of a server without an instance", data: frame(t, hello{Purpose: forRaft, From: "gc-1"})},
		{name: "nothing", data: nil, want: "EOF"},
		{name: "Raft without a hello", data: append([]byte{0}, make([]byte, 100)...), want: "does not begin with a hello"},
		{name: "of another version", data: []byte("conclave\x02" + strings.Repeat("x", 100)), want: "another version"},
		{name: "cut in its head", data: frame(t, goodHello)[:5], want: "unexpected EOF"},
		{name: "cut in its body", data: frame(t, goodHello)[:40], want: "unexpected EOF"},
		{name: "too long", data: rawFrame(strings.Repeat(" ", maxHello+1)), want: "at most"},
		{name: "no JSON", data: rawFrame("hello"), want: "decode"},
		{name: "unknown purpose", data: rawFrame(`{"purpose":"war","from":"gc-1"}`), want: "purpose"},
		{name: "from nobody", data: rawFrame(`{"purpose":"raft"}`), want: "no replica"},
		{name: "from an instance of nobody", data: rawFrame(`{"purpose":"raft","from":".00ff"}`), want: "no replica"},
		{name: "from an address", data: rawFrame(`{"purpose":"raft","from":"gc-1.00ff@host:1"}`), want: "no replica"},
		{name: "asking from nowhere", data: rawFrame(`{"purpose":"standing","from":"gc-1.00ff"}`), want: "no address"},
		{name: "asking from two places", data: rawFrame(`{"purpose":"standing","from":"gc-1.00ff","address":"a@b:1"}`), want: "no address"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := readHello(bytes.NewReader(tc.data))
			if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// What follows a hello belongs to Raft.
func TestReadHelloTakesNoByteTooMany(t *testing.T) {
	r := bytes.NewReader(append(frame(t, goodHello), "raft"...))
	if _, err := readHello(r); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "raft" {
		t.Errorf("after the hello %q is left (%v), want raft", rest, err)
	}
}

func TestAHelloThatIsTooLongIsNotSent(t *testing.T) {
	var buf bytes.Buffer
	if err := writeFrame(&buf, answer{Reason: strings.Repeat("x", maxHello)}); err == nil || buf.Len() > 0 {
		t.Errorf("%d bytes were sent, error %v", buf.Len(), err)
	}
}

// Whatever a stranger sends: no panic, no more memory than a hello may have, and what is taken for a
// hello is one.
func FuzzReadHello(f *testing.F) {
	f.Add(frame(f, goodHello))
	f.Add(frame(f, hello{Purpose: forRaft, From: "gc-1", To: "gc-2.0011223344556677", Joined: true}))
	f.Add(rawFrame(`{"purpose":"standing","from":"a","address":"b","initial":[]}`))
	f.Add([]byte(helloMagic + "\xff\xff"))
	f.Add([]byte{0, 1, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHello(bytes.NewReader(data))
		if err != nil {
			return
		}
		first, err := json.Marshal(h)
		if err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", h, err)
		}
		if len(first) > maxHello {
			return // some characters are longer in our own hand
		}
		again, err := readHello(bytes.NewReader(frame(t, h)))
		if err != nil {
			t.Fatalf("%+v was read, and not what it was written as: %v", h, err)
		}
		if second, _ := json.Marshal(again); !bytes.Equal(first, second) {
			t.Fatalf("%s came back as %s", first, second)
		}
	})
}
