package replica

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

// limit is what one kind of field may hold: values at its boundary and just beyond.
type limit struct{ good, bad []any }

func letters(n int) string { return strings.Repeat("x", n) }

func endpoint(bytes int) string {
	const scheme = "https://"
	return scheme + letters(bytes-len(scheme))
}

var (
	word       = []any{"a", "AZaz09-_"}
	notWord    = []any{"a b", "a/b", "a\x00", "ü", "a\n", "a,b", "a\"b"}
	idLimit    = limit{append(word, letters(255)), append(notWord, "", letters(256), "a.b", "a:b")}
	filterID   = limit{append(word, "", letters(255)), append(notWord, letters(256), "a.b")}
	regionName = limit{append(word, letters(50)), append(notWord, "", letters(51), "a.b")}
	optional   = limit{append(word, "", letters(50)), append(notWord, letters(51), "a:b")}
	meeting    = limit{append(word, "a.b:c", letters(255)), append(notWord, "", letters(256))}
	address    = limit{
		[]any{"http://h", "https://h:1", "grpc://h:65535", "grpc://[::1]:7", endpoint(255)},
		[]any{"", "h:1", "ftp://h", "HTTPS//h", "http://", "http://:80", "https://u:p@h", "https://h:0", "https://h:65536", "https://h h", endpoint(256)},
	}
	percent = limit{
		[]any{float32(0), float32(0.5), float32(100)},
		[]any{float32(-0.001), float32(100.001), float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))},
	}
	health   = limit{[]any{protoreflect.EnumNumber(0), protoreflect.EnumNumber(4)}, []any{protoreflect.EnumNumber(-1), protoreflect.EnumNumber(5)}}
	freshens = limit{[]any{protoreflect.EnumNumber(0), protoreflect.EnumNumber(1)}, []any{protoreflect.EnumNumber(-1), protoreflect.EnumNumber(2)}}
	atLeast1 = limit{[]any{uint32(1), uint32(math.MaxUint32)}, []any{uint32(0)}}
	pages    = limit{[]any{uint32(0), uint32(1), uint32(1000)}, []any{uint32(1001), uint32(math.MaxUint32)}}
	places   = limit{[]any{""}, []any{"%", "not a token", "AAA="}}
	reasons  = limit{[]any{"", "the host left", strings.Repeat("é", 127)}, []any{letters(256), strings.Repeat("é", 128), "a\nb", "a\x1b[0m"}}
)

// limits are those of every field of every request. Where a request holds others, the path names
// the first of them.
var limits = []struct {
	method  string
	request proto.Message
	fields  map[string]limit
}{
	{darktowerv1.MediaHandlerRegistryService_RegisterMH_FullMethodName, mh{id: "limits-mh", region: "limits"}.registration(), map[string]limit{
		"handler_id": idLimit, "region": regionName, "zone": optional, "webtransport_endpoint": address, "grpc_endpoint": address, "max_streams": atLeast1}},
	{darktowerv1.MediaHandlerRegistryService_SendLoadReport_FullMethodName, &darktowerv1.SendLoadReportRequest{HandlerId: "limits-mh"}, map[string]limit{
		"handler_id": idLimit, "health": health, "cpu_usage_percent": percent, "memory_usage_percent": percent, "bandwidth_usage_percent": percent}},
	{darktowerv1.GlobalControllerService_RegisterMC_FullMethodName, &darktowerv1.RegisterMCRequest{
		Id: "limits-mc", Region: "limits", GrpcEndpoint: "http://h", WebtransportEndpoint: "https://h", MaxMeetings: 1}, map[string]limit{
		"id": idLimit, "region": regionName, "zone": optional, "webtransport_endpoint": address, "grpc_endpoint": address, "max_meetings": atLeast1,
		"max_participants": {good: []any{uint32(0), uint32(math.MaxUint32)}}}},
	{darktowerv1.GlobalControllerService_FastHeartbeat_FullMethodName, &darktowerv1.FastHeartbeatRequest{ControllerId: "limits-mc"}, map[string]limit{
		"controller_id": idLimit, "health": health}},
	{darktowerv1.GlobalControllerService_ComprehensiveHeartbeat_FullMethodName, &darktowerv1.ComprehensiveHeartbeatRequest{
		ControllerId: "limits-mc", Hosted: []*darktowerv1.HostedMeeting{{MeetingId: "m", Region: "limits", FencingToken: 1}}}, map[string]limit{
		"controller_id": idLimit, "health": health, "cpu_usage_percent": percent, "memory_usage_percent": percent,
		"hosted[0].meeting_id": meeting, "hosted[0].region": regionName}},
	{darktowerv1.GlobalControllerService_NotifyMeetingEnded_FullMethodName, &darktowerv1.NotifyMeetingEndedRequest{MeetingId: "m", Region: "limits"}, map[string]limit{
		"meeting_id": meeting, "region": regionName}},
	{conclavev1.AssignmentService_AssignMeeting_FullMethodName, &conclavev1.AssignMeetingRequest{MeetingId: "m", Region: "limits"}, map[string]limit{
		"meeting_id": meeting, "region": optional, "preferred_zone": optional}},
	{conclavev1.AssignmentService_GetAssignment_FullMethodName, &conclavev1.GetAssignmentRequest{MeetingId: "m", Region: "limits"}, map[string]limit{
		"meeting_id": meeting, "region": optional, "consistency": freshens}},
	{conclavev1.AssignmentService_EndMeeting_FullMethodName, &conclavev1.EndMeetingRequest{MeetingId: "m", Region: "limits"}, map[string]limit{
		"meeting_id": meeting, "region": optional, "reason": reasons}},
	{conclavev1.AssignmentService_ListAssignments_FullMethodName, &conclavev1.ListAssignmentsRequest{}, map[string]limit{
		"region": optional, "mc_id": filterID, "page_size": pages, "page_token": places, "consistency": freshens}},
	{conclavev1.RegistryService_ListMediaHandlers_FullMethodName, &conclavev1.ListMediaHandlersRequest{}, map[string]limit{
		"region": optional, "page_size": pages, "page_token": places, "consistency": freshens}},
	{conclavev1.RegistryService_ListMeetingControllers_FullMethodName, &conclavev1.ListMeetingControllersRequest{}, map[string]limit{
		"region": optional, "page_size": pages, "page_token": places, "consistency": freshens}},
	{conclavev1.RegistryService_GetMediaHandler_FullMethodName, &conclavev1.GetMediaHandlerRequest{HandlerId: "limits-mh"}, map[string]limit{
		"handler_id": idLimit, "consistency": freshens}},
	{conclavev1.RegistryService_GetMeetingController_FullMethodName, &conclavev1.GetMeetingControllerRequest{Id: "limits-mc"}, map[string]limit{
		"id": idLimit, "consistency": freshens}},
}

// What is at its limit passes and what is beyond does not, at every replica: one that validated
// less than the others would put into the log what they refuse. A cluster of its own, since the
// longest of all names end up in it.
func TestLimits(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	at := []*member{c.leader(t), c.follower(t)}
	for _, test := range limits {
		for field, limit := range test.fields {
			t.Run(test.method[strings.LastIndex(test.method, "/")+1:]+"/"+field, func(t *testing.T) {
				for i, value := range limit.good {
					_, err := at[i%2].send(t, test.method, withField(test.request, field, value))
					if code := status.Code(err); code == codes.InvalidArgument || code == codes.Internal || code == codes.Unknown {
						t.Errorf("%.60v was refused: %v", value, err)
					}
				}
				for i, value := range limit.bad {
					_, err := at[i%2].send(t, test.method, withField(test.request, field, value))
					if bad := invalidField.check(err); bad != nil {
						t.Errorf("%.60v passed: %v", value, bad)
					} else if fieldOf(err) != field {
						t.Errorf("%.60v: the field named is %q", value, fieldOf(err))
					}
				}
			})
		}
	}
}

// send calls a method by its name, whatever its answer is.
func (m *member) send(t *testing.T, method string, request proto.Message) (proto.Message, error) {
	answer := new(conclavev1.GetStatusRequest) // every field of the answer is unknown to it, and kept
	err := m.conn.Invoke(t.Context(), method, request, answer)
	return answer, err
}

// withField returns a copy of a request with one field, "name" or "list[0].name", set.
func withField(request proto.Message, path string, value any) proto.Message {
	spoilt := proto.Clone(request)
	at := spoilt.ProtoReflect()
	if list, name, nested := strings.Cut(path, "[0]."); nested {
		at = at.Mutable(at.Descriptor().Fields().ByName(protoreflect.Name(list))).List().Get(0).Message()
		path = name
	}
	field := at.Descriptor().Fields().ByName(protoreflect.Name(path))
	if field == nil {
		panic(fmt.Sprintf("%s has no field %s", at.Descriptor().FullName(), path))
	}
	at.Set(field, protoreflect.ValueOf(value))
	return spoilt
}

// fieldOf is the field that an error names to programs.
func fieldOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Metadata["field"]
		}
	}
	return ""
}
