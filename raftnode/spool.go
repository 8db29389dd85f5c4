package raftnode

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// spool receives snapshots beside raft, which would do nothing else until it has all of one: no vote, no
// timeout, and no end either. A leader that is stopped in the middle would keep the others from electing
// another, for as long as its connection lasts.
type spool struct {
	dir string // of the files, which have no name

	mu        sync.Mutex
	receiving *os.File
}

// receive returns a file with the whole snapshot of a request, to be read from its beginning. It goes when
// it is closed.
func (s *spool) receive(req *raft.InstallSnapshotRequest, from io.Reader) (*os.File, error) {
	file, err := s.begin()
	if err != nil {
		return nil, err
	}
	received, err := io.Copy(file, from)
	if err == nil && received != req.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	s.end(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// begin gives up what is being received: its leader, if there is one, has begun anew.
func (s *spool) begin() (*os.File, error) {
	file, err := os.CreateTemp(s.dir, "snapshot-")
	if err != nil {
		return nil, fmt.Errorf("make a file for a snapshot: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, fmt.Errorf("take the name from the file of a snapshot: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.receiving != nil {
		s.receiving.Close()
	}
	s.receiving = file
	return file, nil
}

func (s *spool) end(file *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.receiving == file {
		s.receiving = nil
	}
}

// InstallSnapshot sends a snapshot. A failure is told when the peer is there, as that of an append is; what
// it answered before says nothing then.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress,
	req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.log.stalled() > maxDiskStall {
		return errDiskStalled
	}
	err := t.NetworkTransport.InstallSnapshot(id, target, req, resp, data)
	if err != nil {
		t.forget(id)
		t.awaitPeer(id, req.Term, time.Now())
	}
	return err
}

// receiveSnapshot hands a snapshot to raft once it is here.
func (t *transport) receiveSnapshot(rpc raft.RPC) {
	file, err := t.spool.receive(rpc.Command.(*raft.InstallSnapshotRequest), rpc.Reader)
	if err != nil {
		t.logger.Warn("could not receive a snapshot", "error", err)
		_, _ = io.Copy(io.Discard, rpc.Reader) // what is left is no request; and the leader reads why when it has sent all
		rpc.Respond(new(raft.InstallSnapshotResponse), fmt.Errorf("receive a snapshot: %w", err))
		return
	}
	defer file.Close()
	answer := make(chan raft.RPCResponse, 1)
	select {
	case t.snapshots <- raft.RPC{Command: rpc.Command, Reader: file, RespChan: answer}:
	case <-t.done:
		return
	}
	select {
	case resp := <-answer:
		rpc.Respond(resp.Response, resp.Error)
	case <-t.done:
	}
}
