package replica

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	"github.com/conclave-rtc/conclave/sim"
)

// rawCodec sends and receives bytes as they are: it knows no message, as it were.
type rawCodec struct{}

func (rawCodec) Name() string                       { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = slices.Clone(data); return nil }

// fields are a message as it is on the wire: by number, strings and varints only.
type fields map[protowire.Number]any

func (f fields) encode() []byte {
	var out []byte
	for number, value := range f {
		switch v := value.(type) {
		case string:
			out = protowire.AppendTag(out, number, protowire.BytesType)
			out = protowire.AppendString(out, v)
		case int:
			out = protowire.AppendTag(out, number, protowire.VarintType)
			out = protowire.AppendVarint(out, uint64(v))
		case fields:
			out = protowire.AppendTag(out, number, protowire.BytesType)
			out = protowire.AppendBytes(out, v.encode())
		default:
			panic(fmt.Sprintf("field %d: a %T", number, value))
		}
	}
	return out
}

// decodeFields is the other way; what is length-delimited is a string.
func decodeFields(t *testing.T, data []byte) fields {
	t.Helper()
	f := fields{}
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		data = data[n:]
		switch kind {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(data)
			f[number], data = int(v), data[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(data)
			f[number], data = string(v), data[n:]
		default:
			t.Fatalf("field %d has wire type %d", number, kind)
		}
	}
	return f
}

// raw calls a method by its name with bytes, as a client that was built against another version
// of the messages does.
func (m *member) raw(t *testing.T, method string, request fields) fields {
	t.Helper()
	in, out := request.encode(), []byte(nil)
	if err := m.conn.Invoke(t.Context(), method, &in, &out, grpc.ForceCodec(rawCodec{})); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return decodeFields(t, out)
}

// A client that was built long ago knows the old fields only, and one of the two package names.
func TestOldClientsOnTheWire(t *testing.T) {
	c := shared(t)
	for i, pkg := range []string{"dark_tower.internal", "dark_tower.internal.v1"} {
		t.Run(pkg, func(t *testing.T) {
			region := fmt.Sprint("wire-", i)
			mhID, mcID := region+"-mh", region+"-mc"
			handlers, controllers := "/"+pkg+".MediaHandlerRegistryService/", "/"+pkg+".GlobalControllerService/"
			for _, m := range []*member{c.leader(t), c.follower(t)} {
				got := m.raw(t, handlers+"RegisterMH", fields{1: mhID, 2: region, 3: "https://mh:4433", 4: "http://mh:50053", 5: 500})
				if got[1] != 1 || got[3] != 10_000 {
					t.Errorf("RegisterMH: %v, want accepted and 10 000 ms", got)
				}
				acknowledged(t, "SendLoadReport", m.raw(t, handlers+"SendLoadReport", fields{1: mhID, 2: 7, 3: 1}))

				mc := c.addMC(t, mcID+m.id(), "elsewhere") // it only lends its server
				got = m.raw(t, controllers+"RegisterMC", fields{1: mcID, 2: region, 3: mc.Endpoint(), 4: "https://mc:4433", 5: 100, 6: 1000})
				if got[1] != 1 || got[3] != 10_000 || got[4] != 30_000 {
					t.Errorf("RegisterMC: %v, want accepted, 10 000 and 30 000 ms", got)
				}
				capacity := fields{1: 100, 2: 3, 3: 1000, 4: 30}
				acknowledged(t, "FastHeartbeat", m.raw(t, controllers+"FastHeartbeat", fields{1: mcID, 2: capacity, 3: 1}))
				acknowledged(t, "ComprehensiveHeartbeat", m.raw(t, controllers+"ComprehensiveHeartbeat", fields{1: mcID, 2: capacity, 3: 1}))
				if got := m.controller(t, mcID); got.Capacity.CurrentParticipants != 30 || got.Zone != "" {
					t.Errorf("as registered: %v", got)
				}

				meeting := "m-" + m.id()
				m.join(t, region, meeting)
				events := eventsOf(mc, sim.EventAssign, meeting)
				if legacy := pkg == "dark_tower.internal"; len(events) != 1 || events[0].Legacy != legacy {
					t.Errorf("the controller was called as %+v, want once, under the name it registered with", events)
				}
				if got := m.raw(t, controllers+"NotifyMeetingEnded", fields{1: meeting, 2: region}); got[1] != 1 {
					t.Errorf("NotifyMeetingEnded: %v, want acknowledged", got)
				}
				if live := m.live(t, region, meeting); live != nil {
					t.Errorf("it lives on: %v", live)
				}
			}
		})
	}
}

func acknowledged(t *testing.T, call string, got fields) {
	t.Helper()
	if now := int(time.Now().Unix()); got[1] != 1 || got[2].(int) < now-60 || got[2].(int) > now+60 {
		t.Errorf("%s: %v, want acknowledged, at %d", call, got, now)
	}
}

// The name that a controller registered with last is the one it is called by, for releases too.
func TestControllerIsCalledByTheNameItRegisteredWith(t *testing.T) {
	c := shared(t)
	for region, legacy := range map[string]bool{"dialect-v1": false, "dialect-v0": true} {
		c.addMH(t, mh{id: region + "-mh", region: region})
		mc := c.addMC(t, region+"-mc", region, func(config *sim.MeetingControllerConfig) { config.Legacy = legacy })
		a := c.follower(t).join(t, region, "m").Assignment
		c.follower(t).end(t, region, "m", a.FencingToken)
		notHosting(t, mc, region, "m")
		for _, kind := range []sim.EventKind{sim.EventAssign, sim.EventRelease} {
			if events := eventsOf(mc, kind, "m"); len(events) != 1 || events[0].Legacy != legacy {
				t.Errorf("%s: %s: %+v, want one, legacy: %v", region, kind, events, legacy)
			}
		}
	}
}

func TestReflectionListsEveryService(t *testing.T) {
	stream, err := reflectionv1.NewServerReflectionClient(shared(t).members[0].conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	list := ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	var names []string
	for _, s := range list.GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}
	for _, want := range []string{
		"dark_tower.internal.v1.MediaHandlerRegistryService", "dark_tower.internal.MediaHandlerRegistryService",
		"dark_tower.internal.v1.GlobalControllerService", "dark_tower.internal.GlobalControllerService",
		"conclave.v1.AssignmentService", "conclave.v1.RegistryService", "conclave.v1.ClusterService", "grpc.health.v1.Health",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
		described := ask(&reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: want}})
		if described.GetFileDescriptorResponse() == nil {
			t.Errorf("%s is listed, but not described: %v", want, described.GetErrorResponse())
		}
	}
}

func TestHealthServiceOfAReadyReplica(t *testing.T) {
	c := shared(t)
	for _, m := range c.members {
		eventually(t, m.id()+" says that it serves", func() error { return served(t, m, healthv1.HealthCheckResponse_SERVING) })
	}
	_, err := healthv1.NewHealthClient(c.members[0].conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nobody.Serves"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("a service that nobody serves: %v", err)
	}
}

// A message of 1 MiB is taken, at a follower and at the leader, and no larger one.
func TestLargestMessage(t *testing.T) {
	const limit = 1 << 20
	c := shared(t)
	c.addMC(t, "large-mc", "large")
	request := &darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: "large-mc", Health: darktowerv1.HealthStatus_HEALTHY}
	data := fields{1: "large-mc", 3: 1}.encode()
	// An unknown field fills the message up to the byte.
	fill := func(size int) []byte {
		const head = 2 + 3 // tag and length of what follows
		out := protowire.AppendTag(slices.Clone(data), 500, protowire.BytesType)
		return protowire.AppendBytes(out, make([]byte, size-len(data)-head))
	}
	for _, m := range []*member{c.leader(t), c.follower(t)} {
		send := func(size int) error {
			in, out := fill(size), []byte(nil)
			if len(in) != size {
				t.Fatalf("the message has %d bytes, want %d", len(in), size)
			}
			return m.conn.Invoke(t.Context(), darktowerv1.GlobalControllerService_ComprehensiveHeartbeat_FullMethodName, &in, &out, grpc.ForceCodec(rawCodec{}))
		}
		if err := send(limit); err != nil {
			t.Errorf("%s refuses 1 MiB: %v", m.id(), err)
		}
		if err := send(limit + 1); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s takes more than 1 MiB: %v", m.id(), err)
		}
	}

	// Answers may be larger: a heartbeat that lists as much as it can is told to drop it all.
	for i := range 20_000 {
		request.Hosted = append(request.Hosted, &darktowerv1.HostedMeeting{
			MeetingId: fmt.Sprintf("meeting-%020d", i), Region: "large", FencingToken: 1})
	}
	answer, err := c.follower(t).controllers().ComprehensiveHeartbeat(t.Context(), request)
	if err != nil || len(answer.Release) != len(request.Hosted) {
		t.Errorf("a heartbeat with %d meetings is told to release %d: %v", len(request.Hosted), len(answer.GetRelease()), err)
	}
}
