package grpcsvc

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// FuzzValidate holds validate against rules written down a second time in another way: whatever
// bytes arrive, it never panics, and what it accepts is what the rules allow.
func FuzzValidate(f *testing.F) {
	kinds := validRequests()
	for kind, example := range kinds {
		encoded, err := proto.Marshal(example)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), encoded)
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		request := kinds[int(kind)%len(kinds)].ProtoReflect().New().Interface()
		if proto.Unmarshal(data, request) != nil || validate(request) != nil {
			return
		}
		// Check what others will read, not what this process happens to hold.
		encoded, err := proto.Marshal(request)
		if err != nil {
			t.Fatalf("a valid request cannot be encoded: %v", err)
		}
		decoded := request.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(encoded, decoded); err != nil {
			t.Fatalf("a valid request cannot be decoded: %v", err)
		}
		recheck(t, decoded.ProtoReflect())
	})
}

var (
	plainID     = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)
	plainRegion = regexp.MustCompile(`^[A-Za-z0-9_-]{1,50}$`)

	textPatterns = map[protoreflect.Name]*regexp.Regexp{
		"handler_id":     plainID,
		"controller_id":  plainID,
		"id":             plainID,
		"mc_id":          plainID,
		"meeting_id":     regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,255}$`),
		"region":         plainRegion,
		"zone":           plainRegion,
		"preferred_zone": plainRegion,
		"reason":         regexp.MustCompile(`^\P{Cc}*$`),
		"page_token":     regexp.MustCompile(`(?s)^.*$`),
	}
	mayBeEmpty = []protoreflect.Name{"mc_id", "zone", "preferred_zone"}
)

// recheck walks over all fields, those at their defaults included.
func recheck(t *testing.T, message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		value := message.Get(field)
		switch {
		case field.IsList():
			for j := range value.List().Len() {
				item := value.List().Get(j).Message()
				// Reports that come together are refused one by one.
				if report, ok := item.Interface().(*conclavev1.LoadReport); ok && validate(report) != nil {
					continue
				}
				recheck(t, item)
			}
		case field.Kind() == protoreflect.StringKind:
			recheckText(t, message, field, value.String())
		case field.Kind() == protoreflect.FloatKind:
			if percent := value.Float(); !(percent >= 0) || percent > 100 {
				t.Errorf("%s is %v", field.FullName(), percent)
			}
		case field.Kind() == protoreflect.EnumKind:
			if field.Enum().Values().ByNumber(value.Enum()) == nil {
				t.Errorf("%s is %d", field.FullName(), value.Enum())
			}
		case field.Name() == "page_size" && value.Uint() > 1000:
			t.Errorf("page_size is %d", value.Uint())
		case message.Descriptor().Name() != "ControllerCapacity" &&
			(field.Name() == "max_streams" || field.Name() == "max_meetings") && value.Uint() == 0:
			t.Errorf("%s is 0", field.FullName())
		}
	}
}

func recheckText(t *testing.T, message protoreflect.Message, field protoreflect.FieldDescriptor, value string) {
	regionIsOptional := field.Name() == "region" && message.Descriptor().ParentFile().Package() == "conclave.v1"
	if value == "" && (regionIsOptional || slices.Contains(mayBeEmpty, field.Name())) {
		return
	}
	if pattern := textPatterns[field.Name()]; pattern != nil {
		if !pattern.MatchString(value) || field.Name() == "reason" && len(value) > 255 {
			t.Errorf("%s is %q", field.FullName(), value)
		}
		return
	}
	// Whatever is left is an endpoint.
	address, err := url.Parse(value)
	if err != nil {
		t.Fatalf("%s is %q: %v", field.FullName(), value, err)
	}
	if !slices.Contains([]string{"http", "https", "grpc"}, address.Scheme) || address.Hostname() == "" ||
		address.User != nil || len(value) > 255 {
		t.Errorf("%s is %q", field.FullName(), value)
	}
	if port := address.Port(); port != "" {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			t.Errorf("%s is %q", field.FullName(), value)
		}
	}
}
