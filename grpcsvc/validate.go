package grpcsvc

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
	darktowerv1 "github.com/conclave-rtc/conclave/proto/darktower/v1"
)

const (
	maxEndpointBytes = 255
	maxReasonBytes   = 255
	maxPageSize      = 1000
	// maxReports is how many load reports one message of a stream may bring.
	maxReports = 1024
	// maxEchoed is how many characters of a refused value an error repeats: enough to recognise
	// it, too few to fill a log.
	maxEchoed = 32
)

// FieldError says which field of a request breaks which rule.
type FieldError struct {
	// Field is the path of the field, as in "hosted[3].meeting_id".
	Field string
	// Rule is what the field must be, and what it is instead.
	Rule string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Rule }

// validate returns the first rule that a request breaks, or nil. It is the only place that
// checks what callers send, and it runs for every call: it allocates nothing when the request
// is valid. A message that has no rules is valid.
//
// The result is a *FieldError and not an error, so that a nil one cannot become a non-nil error
// unnoticed: give it to invalidField.
func validate(request any) *FieldError {
	switch r := request.(type) {
	// What a node says of itself, the most frequent first.
	case *darktowerv1.SendLoadReportRequest:
		return validateLoadReport(r)
	case *conclavev1.LoadReport:
		return validateLoadReport(r)
	case *conclavev1.ReportLoadRequest:
		// Each report is validated, and refused, by itself.
		if count := len(r.GetReports()); count > maxReports {
			return &FieldError{"reports", fmt.Sprintf("must be at most %d (got %d)", maxReports, count)}
		}
		return nil
	case *darktowerv1.FastHeartbeatRequest:
		return validateFastHeartbeat(r)
	case *darktowerv1.ComprehensiveHeartbeatRequest:
		return validateComprehensiveHeartbeat(r)
	case *darktowerv1.RegisterMHRequest:
		return validateRegisterMH(r)
	case *darktowerv1.RegisterMCRequest:
		return validateRegisterMC(r)
	case *darktowerv1.NotifyMeetingEndedRequest:
		return cmp.Or(
			meetingIDRule.check("meeting_id", r.GetMeetingId()),
			regionRule.check("region", r.GetRegion()))

	// What gateways and people ask.
	case *conclavev1.AssignMeetingRequest:
		return cmp.Or(
			meetingIDRule.check("meeting_id", r.GetMeetingId()),
			optionalRegionRule.check("region", r.GetRegion()),
			zoneRule.check("preferred_zone", r.GetPreferredZone()))
	case *conclavev1.GetAssignmentRequest:
		return cmp.Or(
			meetingIDRule.check("meeting_id", r.GetMeetingId()),
			optionalRegionRule.check("region", r.GetRegion()),
			checkConsistency(r.GetConsistency()))
	case *conclavev1.EndMeetingRequest:
		return cmp.Or(
			meetingIDRule.check("meeting_id", r.GetMeetingId()),
			optionalRegionRule.check("region", r.GetRegion()),
			checkReason("reason", r.GetReason()))
	case *conclavev1.ListAssignmentsRequest:
		return cmp.Or(
			checkPage(r),
			optionalIDRule.check("mc_id", r.GetMcId()))
	case *conclavev1.ListMediaHandlersRequest:
		return checkPage(r)
	case *conclavev1.ListMeetingControllersRequest:
		return checkPage(r)
	case *conclavev1.GetMediaHandlerRequest:
		return cmp.Or(
			idRule.check("handler_id", r.GetHandlerId()),
			checkConsistency(r.GetConsistency()))
	case *conclavev1.GetMeetingControllerRequest:
		return cmp.Or(
			idRule.check("id", r.GetId()),
			checkConsistency(r.GetConsistency()))
	}
	return nil
}

// CheckNames holds the names in a replica's own settings to the rules of requests. The error is a
// *FieldError.
func CheckNames(nodeID, region, zone string) error {
	bad := cmp.Or(idRule.check("node-id", nodeID), regionRule.check("region", region), zoneRule.check("zone", zone))
	if bad == nil {
		return nil // not a nil *FieldError, which would be a non-nil error
	}
	return bad
}

func validateRegisterMH(r *darktowerv1.RegisterMHRequest) *FieldError {
	return cmp.Or(
		idRule.check("handler_id", r.GetHandlerId()),
		regionRule.check("region", r.GetRegion()),
		checkEndpoint("webtransport_endpoint", r.GetWebtransportEndpoint()),
		checkEndpoint("grpc_endpoint", r.GetGrpcEndpoint()),
		checkCapacity("max_streams", r.GetMaxStreams()),
		zoneRule.check("zone", r.GetZone()))
}

// validateRegisterMC accepts max_participants 0: a controller need not limit them.
func validateRegisterMC(r *darktowerv1.RegisterMCRequest) *FieldError {
	return cmp.Or(
		idRule.check("id", r.GetId()),
		regionRule.check("region", r.GetRegion()),
		checkEndpoint("grpc_endpoint", r.GetGrpcEndpoint()),
		checkEndpoint("webtransport_endpoint", r.GetWebtransportEndpoint()),
		checkCapacity("max_meetings", r.GetMaxMeetings()),
		zoneRule.check("zone", r.GetZone()))
}

// loadReport is what a load report says, alone or on a stream.
type loadReport interface {
	GetHandlerId() string
	GetHealth() darktowerv1.HealthStatus
	GetCpuUsagePercent() float32
	GetMemoryUsagePercent() float32
	GetBandwidthUsagePercent() float32
}

func validateLoadReport(r loadReport) *FieldError {
	return cmp.Or(
		idRule.check("handler_id", r.GetHandlerId()),
		checkHealth(r.GetHealth()),
		checkPercent("cpu_usage_percent", r.GetCpuUsagePercent()),
		checkPercent("memory_usage_percent", r.GetMemoryUsagePercent()),
		checkPercent("bandwidth_usage_percent", r.GetBandwidthUsagePercent()))
}

// validateFastHeartbeat has no rule for capacity: it may be absent, a maximum of 0 means "as
// registered", and more in use than the maximum is overload, which is ranked and not refused.
func validateFastHeartbeat(r *darktowerv1.FastHeartbeatRequest) *FieldError {
	return cmp.Or(
		idRule.check("controller_id", r.GetControllerId()),
		checkHealth(r.GetHealth()))
}

// validateComprehensiveHeartbeat treats capacity as validateFastHeartbeat does.
func validateComprehensiveHeartbeat(r *darktowerv1.ComprehensiveHeartbeatRequest) *FieldError {
	if bad := cmp.Or(
		idRule.check("controller_id", r.GetControllerId()),
		checkHealth(r.GetHealth()),
		checkPercent("cpu_usage_percent", r.GetCpuUsagePercent()),
		checkPercent("memory_usage_percent", r.GetMemoryUsagePercent())); bad != nil {
		return bad
	}
	for i, hosted := range r.GetHosted() {
		if bad := cmp.Or(
			meetingIDRule.check("meeting_id", hosted.GetMeetingId()),
			regionRule.check("region", hosted.GetRegion())); bad != nil {
			bad.Field = fmt.Sprintf("hosted[%d].%s", i, bad.Field)
			return bad
		}
	}
	return nil
}

// pagedRequest is what every List request has.
type pagedRequest interface {
	GetRegion() string
	GetPageSize() uint32
	GetConsistency() conclavev1.Consistency
}

// checkPage leaves page_token to whoever made it: only the reader of a token knows its form.
func checkPage(r pagedRequest) *FieldError {
	if size := r.GetPageSize(); size > maxPageSize {
		return &FieldError{"page_size", fmt.Sprintf("must be at most %d (got %d)", maxPageSize, size)}
	}
	return cmp.Or(
		optionalRegionRule.check("region", r.GetRegion()),
		checkConsistency(r.GetConsistency()))
}

// nameRule is the rule of one kind of name.
type nameRule struct {
	min, max int
	// extra is what the name may contain beside letters, digits, '-' and '_'.
	extra string
	text  string
}

var (
	idRule             = nameRule{1, 255, "", "must be 1 to 255 characters of A-Z a-z 0-9 - _"}
	optionalIDRule     = nameRule{0, 255, "", "must be at most 255 characters of A-Z a-z 0-9 - _"}
	regionRule         = nameRule{1, 50, "", "must be 1 to 50 characters of A-Z a-z 0-9 - _"}
	optionalRegionRule = nameRule{0, 50, "", "must be at most 50 characters of A-Z a-z 0-9 - _"}
	zoneRule           = optionalRegionRule
	meetingIDRule      = nameRule{1, 255, ".:", "must be 1 to 255 characters of A-Z a-z 0-9 - _ . :"}
)

func (rule *nameRule) check(field, value string) *FieldError {
	if len(value) < rule.min || len(value) > rule.max {
		return &FieldError{field, fmt.Sprintf("%s (got %d)", rule.text, len(value))}
	}
	for i := range len(value) {
		if c := value[i]; !isWordByte(c) && strings.IndexByte(rule.extra, c) < 0 {
			return &FieldError{field, fmt.Sprintf("%s (got %s, refused at byte %d)", rule.text, echo(value), i+1)}
		}
	}
	return nil
}

func isWordByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// checkEndpoint refuses what a dialler could read in two ways. Everything it accepts,
// net/url.Parse accepts too.
func checkEndpoint(field, value string) *FieldError {
	problem := endpointProblem(value)
	if problem == "" {
		return nil
	}
	got := strconv.Itoa(len(value)) + " bytes"
	// What stands before an '@' may be a password: it is not for error messages and logs.
	if len(value) <= maxEndpointBytes && strings.IndexByte(value, '@') < 0 {
		got = echo(value)
	}
	return &FieldError{field, fmt.Sprintf("must be an http://, https:// or grpc:// address of 1 to %d bytes: %s (got %s)",
		maxEndpointBytes, problem, got)}
}

func endpointProblem(value string) string {
	if len(value) == 0 || len(value) > maxEndpointBytes {
		return "has the wrong length"
	}
	for i := range len(value) {
		switch c := value[i]; {
		case c <= ' ' || c >= 0x7f:
			return "has a space, a control character or a character outside ASCII"
		case c == '\\':
			return "has a backslash"
		case c == '%' && (i+2 >= len(value) || !isHex(value[i+1]) || !isHex(value[i+2])):
			return "has a malformed % escape"
		}
	}
	scheme, rest, found := strings.Cut(value, "://")
	if !found || scheme != "http" && scheme != "https" && scheme != "grpc" {
		return "has another scheme"
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	return authorityProblem(authority)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// authorityProblem looks at host[:port].
func authorityProblem(authority string) string {
	if strings.IndexByte(authority, '@') >= 0 {
		return "has user information"
	}
	host, port, hasPort := strings.Cut(authority, ":")
	if strings.HasPrefix(authority, "[") {
		literal, after, closed := strings.Cut(authority[1:], "]")
		// A zone ("%eth0") means something on the caller's machine only.
		if addr, err := netip.ParseAddr(literal); !closed || err != nil || !addr.Is6() || addr.Zone() != "" {
			return "has a malformed IPv6 address"
		}
		var before string
		before, port, hasPort = strings.Cut(after, ":")
		if before != "" {
			return "has a malformed host"
		}
	} else if problem := hostProblem(host); problem != "" {
		return problem
	}
	if hasPort && !isPort(port) {
		return "has a port that is not 1 to 65535"
	}
	return ""
}

func hostProblem(host string) string {
	if host == "" {
		return "has no host"
	}
	for i := range len(host) {
		if c := host[i]; !isWordByte(c) && (c != '.' || i == 0) {
			return "has a malformed host"
		}
	}
	return ""
}

func isPort(port string) bool {
	if len(port) == 0 || len(port) > 5 {
		return false
	}
	number := 0
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
		number = number*10 + int(port[i]-'0')
	}
	return 1 <= number && number <= 65535
}

func checkCapacity(field string, value uint32) *FieldError {
	if value == 0 {
		return &FieldError{field, "must be at least 1 (got 0)"}
	}
	return nil
}

// checkPercent also refuses NaN, which no comparison holds for.
func checkPercent(field string, value float32) *FieldError {
	if value >= 0 && value <= 100 {
		return nil
	}
	return &FieldError{field, fmt.Sprintf("must be a number from 0 to 100 (got %g)", value)}
}

// checkHealth accepts PENDING: it is also what a report says that does not mention health.
func checkHealth(value darktowerv1.HealthStatus) *FieldError {
	if _, known := darktowerv1.HealthStatus_name[int32(value)]; !known {
		return &FieldError{"health", fmt.Sprintf("must be a known HealthStatus (got %d)", int32(value))}
	}
	return nil
}

func checkConsistency(value conclavev1.Consistency) *FieldError {
	if _, known := conclavev1.Consistency_name[int32(value)]; !known {
		return &FieldError{"consistency", fmt.Sprintf("must be a known Consistency (got %d)", int32(value))}
	}
	return nil
}

// checkReason keeps out what would forge lines in a log or a table.
func checkReason(field, value string) *FieldError {
	if len(value) > maxReasonBytes {
		return &FieldError{field, fmt.Sprintf("must be at most %d bytes (got %d)", maxReasonBytes, len(value))}
	}
	if !utf8.ValidString(value) || strings.IndexFunc(value, unicode.IsControl) >= 0 {
		return &FieldError{field, fmt.Sprintf("must be UTF-8 without control characters (got %s)", echo(value))}
	}
	return nil
}

// echo quotes the beginning of a refused value in printable ASCII.
func echo(value string) string {
	characters := 0
	for i := range value {
		if characters == maxEchoed {
			return strconv.QuoteToASCII(value[:i]) + "..."
		}
		characters++
	}
	return strconv.QuoteToASCII(value)
}
