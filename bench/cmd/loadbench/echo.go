package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"google.golang.org/grpc"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// echoArgument makes this program an echo server. It is not for people.
const echoArgument = "echo-server"

// echo answers a load report at once: what gRPC itself costs, which no cluster can beat. It is a
// process of its own, as a replica is.
type echo struct {
	addr    string
	process *exec.Cmd
	stdin   io.Closer
}

func startEcho() (*echo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the echo server: %w", err)
	}
	e := &echo{process: exec.Command(self, echoArgument)}
	e.process.Stderr = os.Stderr
	out, err := e.process.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the echo server: %w", err)
	}
	if e.stdin, err = e.process.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the echo server: %w", err)
	}
	if err := e.process.Start(); err != nil {
		return nil, fmt.Errorf("start the echo server: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		e.stop()
		return nil, fmt.Errorf("ask the echo server for its address: %w", err)
	}
	e.addr = strings.TrimSpace(line)
	return e, nil
}

// stop ends the process: it lives while its input is open, and so never outlives this one.
func (e *echo) stop() {
	_ = e.stdin.Close()  // then there is nothing to close
	_ = e.process.Wait() // how it ended does not matter any more
}

// serveEcho serves until its input ends, and writes its address first.
func serveEcho(in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("echo server: %w", err)
	}
	server := grpc.NewServer()
	darktowerv1.RegisterMediaHandlerRegistryServiceServer(server, echoService{})
	go func() {
		_, _ = io.Copy(io.Discard, in) // its end is all that counts
		server.Stop()
	}()
	if _, err := fmt.Fprintln(out, l.Addr()); err != nil {
		return fmt.Errorf("echo server: %w", err)
	}
	return server.Serve(l)
}

type echoService struct {
	darktowerv1.UnimplementedMediaHandlerRegistryServiceServer
}

func (echoService) SendLoadReport(context.Context, *darktowerv1.SendLoadReportRequest) (*darktowerv1.SendLoadReportResponse, error) {
	return &darktowerv1.SendLoadReportResponse{Acknowledged: true, Timestamp: 1}, nil
}
