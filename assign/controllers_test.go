package assign

import (
	"testing"

	"google.golang.org/grpc/connectivity"

	"github.com/conclave-rtc/conclave/fsm"
	commandv1 "github.com/conclave-rtc/conclave/proto/command/v1"
	"github.com/conclave-rtc/conclave/sim"
)

func TestDialTarget(t *testing.T) {
	for _, c := range []struct {
		endpoint, target, protocol, server string
	}{
		{"http://mc.example:7000", "dns:///mc.example:7000", "insecure", ""},
		{"grpc://mc.example:7000", "dns:///mc.example:7000", "insecure", ""},
		{"http://mc.example", "dns:///mc.example:80", "insecure", ""},
		{"https://mc.example:7000", "dns:///mc.example:7000", "tls", "mc.example"},
		{"https://mc.example/path", "dns:///mc.example:443", "tls", "mc.example"},
		{"http://[2001:db8::1]:7000", "dns:///[2001:db8::1]:7000", "insecure", ""},
		{"ftp://mc.example", "", "", ""},
		{"mc.example:7000", "", "", ""},
		{"http://mc.example:port", "", "", ""},
	} {
		target, creds, err := dialTarget(c.endpoint)
		if c.target == "" {
			if err == nil {
				t.Errorf("%s: dialed as %s", c.endpoint, target)
			}
			continue
		}
		if err != nil || target != c.target {
			t.Errorf("%s: %s, %v; want %s", c.endpoint, target, err, c.target)
			continue
		}
		info := creds.Info()
		//lint:ignore SA1019 nothing else tells the name that is verified
		if name := info.ServerName; info.SecurityProtocol != c.protocol || name != c.server {
			t.Errorf("%s: %s as %q, want %s as %q", c.endpoint, info.SecurityProtocol, name, c.protocol, c.server)
		}
	}
}

func TestAControllerIsCalledUnderThePackageItRegisteredWith(t *testing.T) {
	for name, dialect := range map[string]fsm.Dialect{"current": fsm.DialectV1, "older": fsm.DialectV0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, patient)
			mc := r.controller("mc", nil)
			r.log.commit(&commandv1.Command{Op: &commandv1.Command_RegisterNode{RegisterNode: &commandv1.RegisterNode{
				Kind: fsm.MeetingController, Id: "mc", Region: "eu", Capacity: 10, GrpcEndpoint: mc.Endpoint(),
				RegistrationId: 1 << 40, Dialect: dialect,
			}}})
			r.log.report(fsm.MeetingController, "mc", fsm.Healthy, 0)
			p := r.mustJoin("m")
			r.assigner.ReleaseEnded(p.Assignment)
			eventually(t, "the release", func() bool { return mc.Count(sim.EventRelease, "") == 1 })
			for _, e := range mc.Events() {
				if want := dialect == fsm.DialectV0; e.Legacy != want {
					t.Errorf("%s came under the older package: %t, want %t", e.Kind, e.Legacy, want)
				}
			}
		})
	}
}

func TestConnectionsAreKeptWhileTheControllerIsThere(t *testing.T) {
	r := newRig(t, patient)
	c := r.assigner.controllers
	first, err := c.conn("mc", "http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	node := &fsm.Node{Kind: fsm.MeetingController, ID: "mc", GRPCEndpoint: "http://127.0.0.1:1", Health: fsm.Degraded}
	c.NodeChanged(node)
	c.NodeChanged(&fsm.Node{Kind: fsm.MediaHandler, ID: "mc", Health: fsm.Unhealthy}) // a namesake
	if again, _ := c.conn("mc", "http://127.0.0.1:1"); again != first {
		t.Error("a second connection to the same endpoint")
	}

	expectDropped := func(what string) {
		t.Helper()
		eventually(t, what+" closes the connection", func() bool { return first.GetState() == connectivity.Shutdown })
		if first, err = c.conn("mc", node.GRPCEndpoint); err != nil || first.GetState() == connectivity.Shutdown {
			t.Fatalf("%s: no new connection: %v", what, err)
		}
	}
	node.GRPCEndpoint = "http://127.0.0.1:2"
	c.NodeChanged(node)
	expectDropped("moving")
	gone := *node
	gone.Health = fsm.Unhealthy
	c.NodeChanged(&gone)
	expectDropped("falling silent")
	c.Reset(fsm.NewState())
	expectDropped("a snapshot")
	// It moves on: what it must drop is still told at the old place, and that disturbs no call at the new one.
	moved, err := c.conn("mc", "http://127.0.0.1:3")
	if err != nil {
		t.Fatal(err)
	}
	if old, _ := c.conn("mc", node.GRPCEndpoint); old != first {
		t.Error("a call at the new place closed the connection to the old one")
	}
	if again, _ := c.conn("mc", "http://127.0.0.1:3"); again != moved {
		t.Error("a call at the old place closed the connection to the new one")
	}
	node.GRPCEndpoint = "http://127.0.0.1:3"
	c.NodeChanged(node)
	expectDropped("moving on")
	c.Close()
	if len(c.conns) != 0 {
		t.Errorf("%d connections are left", len(c.conns))
	}
}
