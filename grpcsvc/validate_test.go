package grpcsvc

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// validRequests has a valid example of every request that has rules. Tests spoil one field at
// a time.
func validRequests() []proto.Message {
	capacity := &darktowerv1.ControllerCapacity{MaxMeetings: 100, CurrentMeetings: 3, MaxParticipants: 0}
	return []proto.Message{
		&darktowerv1.RegisterMHRequest{HandlerId: "mh-1", Region: "eu-west", WebtransportEndpoint: "https://mh-1:4433",
			GrpcEndpoint: "grpc://mh-1:50053", MaxStreams: 1, Zone: "a"},
		&darktowerv1.SendLoadReportRequest{HandlerId: "mh-1", CurrentStreams: 7, Health: darktowerv1.HealthStatus_HEALTHY,
			CpuUsagePercent: 12.5},
		&darktowerv1.RegisterMCRequest{Id: "mc-1", Region: "eu-west", GrpcEndpoint: "http://mc-1:50052",
			WebtransportEndpoint: "https://mc-1:4433", MaxMeetings: 1, MaxParticipants: 0, Zone: "a"},
		&darktowerv1.FastHeartbeatRequest{ControllerId: "mc-1", Capacity: capacity, Health: darktowerv1.HealthStatus_DRAINING},
		&darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: "mc-1", Capacity: capacity,
			Hosted: []*darktowerv1.HostedMeeting{{MeetingId: "m:1.a", Region: "eu-west", FencingToken: 9}}},
		&darktowerv1.NotifyMeetingEndedRequest{MeetingId: "m:1.a", Region: "eu-west"},
		&conclavev1.AssignMeetingRequest{MeetingId: "m:1.a", Region: "eu-west", PreferredZone: "a"},
		&conclavev1.GetAssignmentRequest{MeetingId: "m:1.a", Region: "eu-west", Consistency: conclavev1.Consistency_STALE},
		&conclavev1.EndMeetingRequest{MeetingId: "m:1.a", Region: "eu-west", Reason: "l'hôte est parti"},
		&conclavev1.ListAssignmentsRequest{Region: "eu-west", McId: "mc-1", PageSize: 100},
		&conclavev1.ListMediaHandlersRequest{Region: "eu-west", PageSize: 100},
		&conclavev1.ListMeetingControllersRequest{Region: "eu-west", PageSize: 100},
		&conclavev1.GetMediaHandlerRequest{HandlerId: "mh-1"},
		&conclavev1.GetMeetingControllerRequest{Id: "mc-1"},
		&conclavev1.ReportLoadRequest{Reports: []*conclavev1.LoadReport{{Sequence: 1, HandlerId: "mh-1"}}},
		&conclavev1.LoadReport{Sequence: 1, HandlerId: "mh-1", CurrentStreams: 7, Health: darktowerv1.HealthStatus_HEALTHY,
			CpuUsagePercent: 12.5},
	}
}

func TestValidRequestsPass(t *testing.T) {
	for _, request := range validRequests() {
		if bad := validate(request); bad != nil {
			t.Errorf("%s: %v", request.ProtoReflect().Descriptor().Name(), bad)
		}
	}
}

// Every field of text, percentage or enum of every request is under some rule, except these.
var unruled = map[protoreflect.Name]bool{"page_token": true}

func TestEveryRequestOfEveryServiceIsUnderRules(t *testing.T) {
	examples := map[protoreflect.FullName]proto.Message{}
	for _, request := range validRequests() {
		examples[request.ProtoReflect().Descriptor().FullName()] = request
	}
	inputs := []protoreflect.MessageDescriptor{new(conclavev1.LoadReport).ProtoReflect().Descriptor()} // refused one by one
	for _, method := range servedMethods() {
		inputs = append(inputs, method.Input())
	}
	for _, input := range inputs {
		example := examples[input.FullName()]
		if example == nil {
			if input.Fields().Len() > 0 {
				t.Errorf("%s has no example in validRequests", input.FullName())
			}
			continue
		}
		for i := range input.Fields().Len() {
			field := input.Fields().Get(i)
			spoilt := proto.Clone(example)
			if unruled[field.Name()] || !spoil(spoilt.ProtoReflect(), field) {
				continue
			}
			bad := validate(spoilt)
			if bad == nil || bad.Field != string(field.Name()) {
				t.Errorf("%s with a bad %s: got %v", input.Name(), field.Name(), bad)
			}
		}
	}
}

func servedMethods() []protoreflect.MethodDescriptor {
	var methods []protoreflect.MethodDescriptor
	for _, service := range []protoreflect.ServiceDescriptor{
		darktowerv1.File_darktower_v1_darktower_proto.Services().ByName("MediaHandlerRegistryService"),
		darktowerv1.File_darktower_v1_darktower_proto.Services().ByName("GlobalControllerService"),
		conclavev1.File_conclave_v1_assignment_proto.Services().ByName("AssignmentService"),
		conclavev1.File_conclave_v1_registry_proto.Services().ByName("RegistryService"),
		conclavev1.File_conclave_v1_cluster_proto.Services().ByName("ClusterService"),
	} {
		for i := range service.Methods().Len() {
			methods = append(methods, service.Methods().Get(i))
		}
	}
	return methods
}

// spoil gives a field a value that no rule allows; false means that the kind of the field has none.
func spoil(message protoreflect.Message, field protoreflect.FieldDescriptor) bool {
	switch field.Kind() {
	case protoreflect.StringKind:
		message.Set(field, protoreflect.ValueOfString("\x07"))
	case protoreflect.FloatKind:
		message.Set(field, protoreflect.ValueOfFloat32(-1))
	case protoreflect.EnumKind:
		message.Set(field, protoreflect.ValueOfEnum(99))
	default:
		return false
	}
	return true
}

func TestNames(t *testing.T) {
	tests := []struct {
		rule     nameRule
		min, max int
		extra    string
	}{
		{idRule, 1, 255, ""},
		{optionalIDRule, 0, 255, ""},
		{regionRule, 1, 50, ""},
		{optionalRegionRule, 0, 50, ""},
		{zoneRule, 0, 50, ""},
		{meetingIDRule, 1, 255, ".:"},
	}
	for _, test := range tests {
		for _, length := range []int{0, 1, 2, 49, 50, 51, 254, 255, 256, 300} {
			wantValid := length >= test.min && length <= test.max
			if bad := test.rule.check("f", strings.Repeat("x", length)); (bad == nil) != wantValid {
				t.Errorf("%q: %d characters: got %v", test.rule.text, length, bad)
			}
		}
		allowed := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_" + test.extra
		for c := range 256 {
			value := "a" + string([]byte{byte(c)}) + "z"
			wantValid := strings.IndexByte(allowed, byte(c)) >= 0
			if bad := test.rule.check("f", value); (bad == nil) != wantValid {
				t.Errorf("%q: byte %#x: got %v", test.rule.text, c, bad)
			}
		}
	}
}

func TestEmptyNames(t *testing.T) {
	refused := []proto.Message{
		&darktowerv1.SendLoadReportRequest{},
		&darktowerv1.NotifyMeetingEndedRequest{MeetingId: "m"},
		&darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: "mc", Hosted: []*darktowerv1.HostedMeeting{{MeetingId: "m"}}},
		&conclavev1.AssignMeetingRequest{},
		&conclavev1.GetMediaHandlerRequest{},
	}
	for _, request := range refused {
		if validate(request) == nil {
			t.Errorf("%s is valid with a required name missing", request.ProtoReflect().Descriptor().Name())
		}
	}
	// An empty region is the replica's own, or every one; an empty zone is no zone.
	accepted := []proto.Message{
		&conclavev1.AssignMeetingRequest{MeetingId: "m"},
		&conclavev1.GetAssignmentRequest{MeetingId: "m"},
		&conclavev1.EndMeetingRequest{MeetingId: "m"},
		&conclavev1.ListAssignmentsRequest{},
		&conclavev1.ListMediaHandlersRequest{},
		&conclavev1.ListMeetingControllersRequest{},
		&conclavev1.GetStatusRequest{},
	}
	for _, request := range accepted {
		if bad := validate(request); bad != nil {
			t.Errorf("%s: %v", request.ProtoReflect().Descriptor().Name(), bad)
		}
	}
}

func TestEndpoints(t *testing.T) {
	fill := func(length int) string {
		const start = "https://h/"
		return start + strings.Repeat("x", length-len(start))
	}
	valid := []string{
		"http://h", "https://h", "grpc://h", "grpc://mc-1.svc.local:50052", "http://a_b.c:1", "http://h:65535",
		"http://10.0.0.1:80", "https://[::1]", "https://[2001:db8::1]:4433/wt", "https://h/p?a=b#c", "https://h?x=a:b",
		"https://h/%2F", "http://h/a@b", fill(255),
	}
	for _, value := range valid {
		if bad := checkEndpoint("f", value); bad != nil {
			t.Errorf("%q: %v", value, bad)
		}
	}
	invalid := []string{
		"", "h", "h:80", "//h", "http:", "http:/h", "http:h", "://h", fill(256),
		"ftp://h", "ws://h", "HTTP://h", "httpx://h", "unix:///run/s", " http://h",
		"http://", "http:///p", "http://:80", "https://?q", "https://#f", "http://.h",
		"http://u@h", "http://u:p@h", "http://@h", "http://h@", "https://u@[::1]:1",
		"http://h:", "http://h:0", "http://h:65536", "http://h:99999999999999999999", "http://h:-1", "http://h:+1",
		"http://h:8a", "http://h:1:2", "http://h::1", "http://::1",
		"http://[::1", "http://[]", "http://[1.2.3.4]", "http://[fe80::1%25eth0]", "http://[::1]x", "http://[::1]:", "http://[g::1]",
		"http://h h", "http://h/a b", "http://h\t", "http://h\n", "http://h\x00", "http://h\x7f", "http://é", "http://h/é", "http://h\xff",
		`http://h\@evil`, "http://h,g", "http://h%41", "http://h/%", "http://h/%4", "http://h/%zz",
	}
	for _, value := range invalid {
		if bad := checkEndpoint("f", value); bad == nil {
			t.Errorf("%q is valid", value)
		}
	}
}

func TestEndpointErrorsKeepPasswords(t *testing.T) {
	for _, value := range []string{"http://me:secret@h", "ftp://me:secret@h", "http://me:secret@h:x"} {
		if bad := checkEndpoint("grpc_endpoint", value); bad == nil || strings.Contains(bad.Error(), "secret") {
			t.Errorf("%q: %v", value, bad)
		}
	}
}

func TestPercentages(t *testing.T) {
	const tooMuch = 100.1
	tests := map[float32]bool{0: true, 0.1: true, 100: true, tooMuch: false, -0.1: false,
		float32(math.Inf(1)): false, float32(math.Inf(-1)): false, float32(math.NaN()): false,
		math.MaxFloat32: false, float32(math.Copysign(0, -1)): true}
	for value, wantValid := range tests {
		if bad := checkPercent("f", value); (bad == nil) != wantValid {
			t.Errorf("%g: got %v", value, bad)
		}
	}
}

func TestEnums(t *testing.T) {
	for value, wantValid := range map[int32]bool{-1: false, 0: true, 1: true, 2: true, 3: true, 4: true, 5: false, math.MaxInt32: false} {
		if bad := checkHealth(darktowerv1.HealthStatus(value)); (bad == nil) != wantValid {
			t.Errorf("health %d: got %v", value, bad)
		}
	}
	for value, wantValid := range map[int32]bool{-1: false, 0: true, 1: true, 2: false} {
		if bad := checkConsistency(conclavev1.Consistency(value)); (bad == nil) != wantValid {
			t.Errorf("consistency %d: got %v", value, bad)
		}
	}
}

func TestCapacities(t *testing.T) {
	mh := validRequests()[0].(*darktowerv1.RegisterMHRequest)
	mc := validRequests()[2].(*darktowerv1.RegisterMCRequest)
	mh.MaxStreams, mc.MaxMeetings = 0, 0
	if bad := validate(mh); bad == nil || bad.Field != "max_streams" {
		t.Errorf("max_streams 0: got %v", bad)
	}
	if bad := validate(mc); bad == nil || bad.Field != "max_meetings" {
		t.Errorf("max_meetings 0: got %v", bad)
	}
	mh.MaxStreams, mc.MaxMeetings = math.MaxUint32, math.MaxUint32
	if bad := validate(mh); bad != nil {
		t.Errorf("the greatest max_streams: %v", bad)
	}
	if bad := validate(mc); bad != nil {
		t.Errorf("the greatest max_meetings: %v", bad)
	}
}

func TestHeartbeatCapacityIsWhatTheControllerSays(t *testing.T) {
	for name, capacity := range map[string]*darktowerv1.ControllerCapacity{
		"absent": nil, "as registered": {}, "overloaded": {MaxMeetings: 1, CurrentMeetings: 2},
	} {
		if bad := validate(&darktowerv1.FastHeartbeatRequest{ControllerId: "mc", Capacity: capacity}); bad != nil {
			t.Errorf("%s: %v", name, bad)
		}
	}
}

func TestPageSizeAndReason(t *testing.T) {
	for size, wantValid := range map[uint32]bool{0: true, 1000: true, 1001: false, math.MaxUint32: false} {
		bad := validate(&conclavev1.ListMediaHandlersRequest{PageSize: size})
		if (bad == nil) != wantValid || bad != nil && bad.Field != "page_size" {
			t.Errorf("page_size %d: got %v", size, bad)
		}
	}
	for reason, wantValid := range map[string]bool{"": true, "the host left 👋": true, strings.Repeat("x", 255): true,
		strings.Repeat("x", 256): false, strings.Repeat("é", 128): false, "a\nb": false, "\x7f": false, "\u0085": false, "\xff": false} {
		bad := validate(&conclavev1.EndMeetingRequest{MeetingId: "m", Reason: reason})
		if (bad == nil) != wantValid || bad != nil && bad.Field != "reason" {
			t.Errorf("reason %q: got %v", reason, bad)
		}
	}
}

func TestFieldErrorTexts(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		request any
		want    string
	}{
		{&conclavev1.GetMediaHandlerRequest{HandlerId: long},
			"handler_id: must be 1 to 255 characters of A-Z a-z 0-9 - _ (got 300)"},
		{&conclavev1.GetMediaHandlerRequest{HandlerId: "a b"},
			`handler_id: must be 1 to 255 characters of A-Z a-z 0-9 - _ (got "a b", refused at byte 2)`},
		{&conclavev1.GetMediaHandlerRequest{HandlerId: long[:100] + "é"},
			`handler_id: must be 1 to 255 characters of A-Z a-z 0-9 - _ (got "` + long[:32] + `"..., refused at byte 101)`},
		{&darktowerv1.ComprehensiveHeartbeatRequest{ControllerId: "mc", Hosted: []*darktowerv1.HostedMeeting{
			{MeetingId: "m", Region: "r"}, {MeetingId: "é", Region: "r"}}},
			`hosted[1].meeting_id: must be 1 to 255 characters of A-Z a-z 0-9 - _ . : (got "\u00e9", refused at byte 1)`},
	}
	for _, test := range tests {
		if bad := validate(test.request); bad == nil || bad.Error() != test.want {
			t.Errorf("got  %v\nwant %s", bad, test.want)
		}
	}
}

func TestValidRequestsAllocateNothing(t *testing.T) {
	for _, request := range validRequests() {
		if allocs := testing.AllocsPerRun(100, func() { validate(request) }); allocs != 0 {
			t.Errorf("%s: %v allocations", request.ProtoReflect().Descriptor().Name(), allocs)
		}
	}
}
