package proto_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/conclave-rtc/conclave/proto/command/v1"
	_ "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv0 "github.com/conclave-rtc/conclave/proto/darktower/v0"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
	_ "github.com/conclave-rtc/conclave/proto/replica/v1"
)

const lockFile = "testdata/wire.lock"

const lockHeader = `# What is on the wire and on disk. Peers that are not rebuilt and logs that were written long ago
# rely on every line: go test ./proto fails when one is no longer true. New lines come with
# go test ./proto -update. That never removes one: to break the promise, delete the line by hand.
`

var update = flag.Bool("update", false, "add what is new to "+lockFile)

func TestWireFormatIsLocked(t *testing.T) {
	actual := wireLines(t)
	locked := readLock(t)
	for _, line := range locked {
		if !slices.Contains(actual, line) {
			t.Errorf("gone or changed: %s", line)
		}
	}
	if t.Failed() {
		t.Fatalf("other programs and old logs rely on these; if none can, delete the lines from proto/%s", lockFile)
	}
	if *update {
		writeLock(t, actual)
		return
	}
	for _, line := range actual {
		if !slices.Contains(locked, line) {
			t.Errorf("not locked yet: %s", line)
		}
	}
	if t.Failed() {
		t.Fatal("add new lines with: go test ./proto -update")
	}
}

func readLock(t *testing.T) []string {
	content, err := os.ReadFile(lockFile)
	if err != nil && !(*update && os.IsNotExist(err)) {
		t.Fatal(err)
	}
	lines := []string{}
	for line := range strings.Lines(string(content)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

func writeLock(t *testing.T, lines []string) {
	var content bytes.Buffer
	content.WriteString(lockHeader)
	before := ""
	for _, line := range lines {
		// A blank line between declarations, and nothing else: every line stands for itself.
		words := strings.Fields(line)
		if declaration := words[0] + words[1]; declaration != before {
			content.WriteByte('\n')
			before = declaration
		}
		fmt.Fprintln(&content, line)
	}
	if err := os.WriteFile(lockFile, content.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// generatedFiles returns the descriptor of every .proto file in this folder.
func generatedFiles(t *testing.T) []protoreflect.FileDescriptor {
	var files []protoreflect.FileDescriptor
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".proto" {
			return err
		}
		file, err := protoregistry.GlobalFiles.FindFileByPath(filepath.ToSlash(path))
		if err != nil {
			return fmt.Errorf("%s: this test must import its generated package: %w", path, err)
		}
		files = append(files, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wireLines describes every declaration of every file, one fact a line, in the order of their
// names and, within a declaration, of their numbers.
func wireLines(t *testing.T) []string {
	declarations := map[protoreflect.FullName][]string{}
	for _, file := range generatedFiles(t) {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			declarations[service.FullName()] = serviceLines(service)
		}
		addEnums(declarations, file.Enums())
		addMessages(declarations, file.Messages())
	}
	names := make([]protoreflect.FullName, 0, len(declarations))
	for name := range declarations {
		names = append(names, name)
	}
	slices.Sort(names)
	var lines []string
	for _, name := range names {
		lines = append(lines, declarations[name]...)
	}
	return lines
}

func addMessages(declarations map[protoreflect.FullName][]string, messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		declarations[message.FullName()] = messageLines(message)
		addEnums(declarations, message.Enums())
		addMessages(declarations, message.Messages())
	}
}

func addEnums(declarations map[protoreflect.FullName][]string, enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		declarations[enum.FullName()] = enumLines(enum)
	}
}

func serviceLines(service protoreflect.ServiceDescriptor) []string {
	lines := []string{fmt.Sprintf("service %s", service.FullName())}
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		lines = append(lines, fmt.Sprintf("service %s rpc %s(%s%s) returns (%s%s)", service.FullName(), method.Name(),
			stream(method.IsStreamingClient()), method.Input().FullName(),
			stream(method.IsStreamingServer()), method.Output().FullName()))
	}
	slices.Sort(lines)
	return lines
}

func stream(streaming bool) string {
	if streaming {
		return "stream "
	}
	return ""
}

func messageLines(message protoreflect.MessageDescriptor) []string {
	fields := make([]protoreflect.FieldDescriptor, message.Fields().Len())
	for i := range fields {
		fields[i] = message.Fields().Get(i)
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	lines := []string{fmt.Sprintf("message %s", message.FullName())}
	for _, field := range fields {
		line := fmt.Sprintf("message %s %d %s: %s %s", message.FullName(), field.Number(), field.Name(), label(field), fieldType(field))
		if oneof := field.ContainingOneof(); oneof != nil {
			line += fmt.Sprintf(" in oneof %s", oneof.Name())
		}
		lines = append(lines, line)
	}
	return lines
}

// label tells whether a field can be there many times, and whether its absence can be told from
// its default.
func label(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList():
		return "repeated"
	case field.HasOptionalKeyword():
		return "optional"
	}
	return "single"
}

func fieldType(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return fmt.Sprintf("%s %s", field.Kind(), field.Message().FullName())
	case protoreflect.EnumKind:
		return fmt.Sprintf("enum %s", field.Enum().FullName())
	}
	return field.Kind().String()
}

func enumLines(enum protoreflect.EnumDescriptor) []string {
	values := make([]protoreflect.EnumValueDescriptor, enum.Values().Len())
	for i := range values {
		values[i] = enum.Values().Get(i)
	}
	slices.SortFunc(values, func(a, b protoreflect.EnumValueDescriptor) int { return int(a.Number() - b.Number()) })
	lines := []string{fmt.Sprintf("enum %s", enum.FullName())}
	for _, value := range values {
		lines = append(lines, fmt.Sprintf("enum %s %d %s", enum.FullName(), value.Number(), value.Name()))
	}
	return lines
}

// One implementation serves both Dark Tower packages with the messages of v1, so the two must be
// the same on the wire.
func TestOlderDarkTowerPackageIsTheSameOnTheWire(t *testing.T) {
	older := protodesc.ToFileDescriptorProto(darktowerv0.File_darktower_v0_darktower_proto)
	newer := protodesc.ToFileDescriptorProto(darktowerv1.File_darktower_v1_darktower_proto)
	compareByName(t, "service", renamed(older.GetService()), newer.GetService())
	compareByName(t, "message", renamed(older.GetMessageType()), newer.GetMessageType())
	compareByName(t, "enum", renamed(older.GetEnumType()), newer.GetEnumType())
}

type declaration interface {
	proto.Message
	GetName() string
}

// renamed gives the older package's declarations the names that they have in the newer one.
func renamed[D declaration](older []D) []D {
	names := strings.NewReplacer(
		".dark_tower.internal.", ".dark_tower.internal.v1.",
		"MHLoadReportRequest", "SendLoadReportRequest",
		"MHLoadReportResponse", "SendLoadReportResponse")
	newer := make([]D, len(older))
	for i, from := range older {
		to := proto.Clone(from).(D)
		switch d := any(to).(type) {
		case *descriptorpb.DescriptorProto:
			d.Name = proto.String(names.Replace(d.GetName()))
			for _, field := range d.GetField() {
				if field.TypeName != nil {
					field.TypeName = proto.String(names.Replace(field.GetTypeName()))
				}
			}
		case *descriptorpb.ServiceDescriptorProto:
			for _, method := range d.GetMethod() {
				method.InputType = proto.String(names.Replace(method.GetInputType()))
				method.OutputType = proto.String(names.Replace(method.GetOutputType()))
			}
		}
		newer[i] = to
	}
	return newer
}

func compareByName[D declaration](t *testing.T, kind string, older, newer []D) {
	if len(older) == 0 || len(older) != len(newer) {
		t.Errorf("%d declarations of kind %s in v0, %d in v1", len(older), kind, len(newer))
	}
	for _, v1 := range newer {
		at := slices.IndexFunc(older, func(d D) bool { return d.GetName() == v1.GetName() })
		if at < 0 {
			t.Errorf("%s %s is not in v0", kind, v1.GetName())
		} else if !proto.Equal(older[at], v1) {
			t.Errorf("%s %s differs:\nv0 %v\nv1 %v", kind, v1.GetName(), older[at], v1)
		}
	}
}

// What media handlers and meeting controllers in the field were built against, copied by hand
// from their documentation.
var darkTowerContract = map[string]string{
	"RegisterMHRequest":              "1 handler_id string, 2 region string, 3 webtransport_endpoint string, 4 grpc_endpoint string, 5 max_streams uint32, 100 zone string",
	"RegisterMHResponse":             "1 accepted bool, 2 message string, 3 load_report_interval_ms uint64",
	"SendLoadReportRequest":          "1 handler_id string, 2 current_streams uint32, 3 health HealthStatus, 4 cpu_usage_percent float, 5 memory_usage_percent float, 6 bandwidth_usage_percent float",
	"SendLoadReportResponse":         "1 acknowledged bool, 2 timestamp uint64",
	"HealthStatus":                   "0 PENDING, 1 HEALTHY, 2 DEGRADED, 3 UNHEALTHY, 4 DRAINING",
	"RegisterMCRequest":              "1 id string, 2 region string, 3 grpc_endpoint string, 4 webtransport_endpoint string, 5 max_meetings uint32, 6 max_participants uint32, 100 zone string",
	"RegisterMCResponse":             "1 accepted bool, 2 message string, 3 fast_heartbeat_interval_ms uint64, 4 comprehensive_heartbeat_interval_ms uint64",
	"ControllerCapacity":             "1 max_meetings uint32, 2 current_meetings uint32, 3 max_participants uint32, 4 current_participants uint32",
	"FastHeartbeatRequest":           "1 controller_id string, 2 capacity ControllerCapacity, 3 health HealthStatus",
	"ComprehensiveHeartbeatRequest":  "1 controller_id string, 2 capacity ControllerCapacity, 3 health HealthStatus, 4 cpu_usage_percent float, 5 memory_usage_percent float, 100 hosted repeated HostedMeeting",
	"FastHeartbeatResponse":          "1 acknowledged bool, 2 timestamp uint64",
	"ComprehensiveHeartbeatResponse": "1 acknowledged bool, 2 timestamp uint64, 100 release repeated HostedMeeting",
	"HostedMeeting":                  "1 meeting_id string, 2 region string, 3 fencing_token uint64",
	"NotifyMeetingEndedRequest":      "1 meeting_id string, 2 region string, 100 fencing_token uint64",
	"NotifyMeetingEndedResponse":     "1 acknowledged bool",
	"AssignMeetingWithMhRequest":     "1 meeting_id string, 2 mh_assignments repeated MhAssignment, 3 requesting_gc_id string, 100 region string, 101 fencing_token uint64",
	"AssignMeetingWithMhResponse":    "1 accepted bool, 2 rejection_reason RejectionReason",
	"MhAssignment":                   "1 mh_id string, 2 webtransport_endpoint string, 3 role MhRole, 4 grpc_endpoint string",
	"MhRole":                         "0 MH_ROLE_UNSPECIFIED, 1 MH_ROLE_PRIMARY, 2 MH_ROLE_BACKUP",
	"RejectionReason":                "0 REJECTION_REASON_UNSPECIFIED, 1 REJECTION_REASON_AT_CAPACITY, 2 REJECTION_REASON_DRAINING, 3 REJECTION_REASON_UNHEALTHY",
	"ReleaseMeetingRequest":          "1 meeting_id string, 2 region string, 3 fencing_token uint64, 4 reason string",
	"ReleaseMeetingResponse":         "1 released bool",

	"MediaHandlerRegistryService": "RegisterMH RegisterMHRequest RegisterMHResponse, SendLoadReport SendLoadReportRequest SendLoadReportResponse",
	"GlobalControllerService": "RegisterMC RegisterMCRequest RegisterMCResponse, FastHeartbeat FastHeartbeatRequest FastHeartbeatResponse, " +
		"ComprehensiveHeartbeat ComprehensiveHeartbeatRequest ComprehensiveHeartbeatResponse, NotifyMeetingEnded NotifyMeetingEndedRequest NotifyMeetingEndedResponse",
	"MeetingControllerService": "AssignMeetingWithMh AssignMeetingWithMhRequest AssignMeetingWithMhResponse, ReleaseMeeting ReleaseMeetingRequest ReleaseMeetingResponse",
}

func TestDarkTowerContract(t *testing.T) {
	file := darktowerv1.File_darktower_v1_darktower_proto
	actual := map[string]string{}
	for i := range file.Messages().Len() {
		message := file.Messages().Get(i)
		actual[string(message.Name())] = contractFields(message)
	}
	for i := range file.Enums().Len() {
		enum := file.Enums().Get(i)
		var values []string
		for j := range enum.Values().Len() {
			values = append(values, fmt.Sprintf("%d %s", enum.Values().Get(j).Number(), enum.Values().Get(j).Name()))
		}
		actual[string(enum.Name())] = strings.Join(values, ", ")
	}
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		var methods []string
		for j := range service.Methods().Len() {
			method := service.Methods().Get(j)
			methods = append(methods, fmt.Sprintf("%s %s %s", method.Name(), method.Input().Name(), method.Output().Name()))
		}
		actual[string(service.Name())] = strings.Join(methods, ", ")
	}
	for name, want := range darkTowerContract {
		if actual[name] != want {
			t.Errorf("%s\ngot  %s\nwant %s", name, actual[name], want)
		}
	}
	for name := range actual {
		if darkTowerContract[name] == "" {
			t.Errorf("%s is not in the contract", name)
		}
	}
}

func contractFields(message protoreflect.MessageDescriptor) string {
	var fields []string
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		kind := field.Kind().String()
		if field.Message() != nil {
			kind = string(field.Message().Name())
		} else if field.Enum() != nil {
			kind = string(field.Enum().Name())
		}
		if field.IsList() {
			kind = "repeated " + kind
		}
		fields = append(fields, fmt.Sprintf("%d %s %s", field.Number(), field.Name(), kind))
	}
	return strings.Join(fields, ", ")
}
