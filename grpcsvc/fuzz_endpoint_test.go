package grpcsvc

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzEndpoint: an endpoint is accepted exactly when the grammar below, written in another way,
// has it. What is accepted, net/url reads as the same host and port. What is refused shows no
// password, and nothing that would forge a line of a log.
func FuzzEndpoint(f *testing.F) {
	for _, endpoint := range []string{
		"http://host", "https://host:443/path?a=b#c", "grpc://10.0.0.1:50051", "http://[::1]:80", "http://[::ffff:1.2.3.4]",
		"http://[fe80::1%25eth0]:80", "http://user:hunter2@host", "http://a@b@c", "HTTP://host", "http:///path", "http://host:", "http://host:0",
		"http://host:065535", "http://host:65536", "http://host%2e:80", "http://host/%zz", "http://host/%41", "http://.host", "http://host.",
		"http://[::1]", "http://[::1]x:80", "http://[1.2.3.4]", "http://ho st", "http://host\n", "http:\\\\host", "http://höst", "ftp://host", "", "://", "http://host?x@y", "http://host#[",
	} {
		f.Add(endpoint)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		bad := checkEndpoint("grpc_endpoint", endpoint)
		if accepted := bad == nil; accepted != inGrammar(endpoint) {
			t.Fatalf("%q: %v, in the grammar: %t", endpoint, bad, !accepted)
		}
		if bad == nil {
			checkRead(t, endpoint)
			return
		}
		if !endpointError.MatchString(bad.Rule) {
			t.Errorf("%q is refused with %q", endpoint, bad.Rule)
		}
		if strings.Contains(endpoint, "@") && !strings.HasSuffix(bad.Rule, " (got "+strconv.Itoa(len(endpoint))+" bytes)") {
			t.Errorf("%q may hold a password, and is refused with %q", endpoint, bad.Rule)
		}
	})
}

var (
	endpointError = regexp.MustCompile(`^must be an http://, https:// or grpc:// address of 1 to 255 bytes: has [a-zA-Z0-9,% -]+ \(got ([0-9]+ bytes|"[ -~]*"(\.\.\.)?)\)$`)
	// endpointParts are the host, or the IPv6 address, and the port.
	endpointParts = regexp.MustCompile(`^(?:http|https|grpc)://(?:([A-Za-z0-9_-][A-Za-z0-9_.-]*)|\[([^\]]*)\])(?::([0-9]{1,5}))?(?:[/?#](?:[!-$&-\[\]-~]|%[0-9A-Fa-f]{2})*)?$`)
)

func inGrammar(endpoint string) bool {
	parts := endpointParts.FindStringSubmatch(endpoint)
	if parts == nil || len(endpoint) > 255 {
		return false
	}
	if address := parts[2]; parts[1] == "" {
		if _, err := netip.ParseAddr(address); err != nil || !strings.Contains(address, ":") || strings.Contains(address, "%") {
			return false
		}
	}
	port, err := strconv.Atoi(parts[3])
	return parts[3] == "" || err == nil && 1 <= port && port <= 65535
}

// checkRead reads an accepted endpoint as whoever dials it does.
func checkRead(t *testing.T, endpoint string) {
	parts := endpointParts.FindStringSubmatch(endpoint)
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatalf("%q is accepted: %v", endpoint, err)
	}
	if u.Hostname() != parts[1]+parts[2] || u.Port() != parts[3] || u.User != nil || u.Opaque != "" {
		t.Errorf("%q is the host %q and port %q, and read as %q and %q", endpoint, parts[1]+parts[2], parts[3], u.Hostname(), u.Port())
	}
	host, port, err := net.SplitHostPort(net.JoinHostPort(u.Hostname(), u.Port()))
	if err != nil || host != u.Hostname() || port != u.Port() {
		t.Errorf("%q is dialled as %q and %q: %v", endpoint, host, port, err)
	}
	if again, err := url.Parse(u.String()); err != nil || again.Host != u.Host || again.Scheme != u.Scheme {
		t.Errorf("%q, written again, is %q: %v", endpoint, u, err)
	}
}
