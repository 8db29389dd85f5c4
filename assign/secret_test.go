package assign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/conclave-rtc/conclave/fsm"
	"github.com/conclave-rtc/conclave/sim"
)

const password = "hunter2-correct-horse"

// shows says whether an output holds the password, in any of the forms that formatting gives it.
func shows(out string) bool {
	return strings.Contains(out, password) ||
		strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", password)) ||
		strings.Contains(out, fmt.Sprint([]byte(password)))
}

func writeToken(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openToken(t *testing.T, content string) (*TokenFile, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	writeToken(t, path, content)
	f, err := OpenTokenFile(path, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return f, path
}

func TestNoFormattingShowsASecret(t *testing.T) {
	file, _ := openToken(t, password)
	if got := file.header(); got != "Bearer "+password {
		t.Fatalf("the header is %q", got)
	}
	s := newSecret(password)
	controllers := NewControllers(file, time.Second, NewMetrics(prometheus.NewRegistry()))
	for name, value := range map[string]any{
		"secret":                       s,
		"pointer":                      &s,
		"slice":                        []secret{s},
		"map":                          map[string]secret{"token": s},
		"field":                        struct{ Token secret }{s},
		"unexported field":             struct{ token secret }{s},
		"unexported field of pointer":  &struct{ token secret }{s},
		"token file":                   file,
		"field with the file":          struct{ Token *TokenFile }{file},
		"unexported field of the file": struct{ token *TokenFile }{file},
		"controllers":                  controllers,
		"field with controllers":       struct{ C *Controllers }{controllers},
		"error":                        fmt.Errorf("outer: %w", fmt.Errorf("token %v: %w", s, errors.New("inner"))),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x"} {
			if out := fmt.Sprintf(verb, value); shows(out) {
				t.Errorf("%s with %s: %s", name, verb, out)
			}
		}
		if out, err := json.Marshal(value); err == nil && shows(string(out)) {
			t.Errorf("%s as JSON: %s", name, out)
		}
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace, JSONFormat: asJSON}).
				With("bound", value).Info("message", "value", value)
			if shows(out.String()) || !strings.Contains(out.String(), "message") {
				t.Errorf("%s in a log, JSON %t: %s", name, asJSON, out.String())
			}
		}
	}
}

func TestTheTokenFileIsReadAgainWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // its clock, and the file system's files
		f, path := openToken(t, " first\n")
		expect := func(want string) {
			t.Helper()
			if got := f.header(); got != "Bearer "+want {
				t.Errorf("the header is %q, want that of %q", got, want)
			}
		}
		expect("first")
		writeToken(t, path, "second-token\n")
		expect("first") // looked at a moment ago
		time.Sleep(tokenCheckInterval)
		expect("second-token")

		// Same size, another time.
		writeToken(t, path, "third--token\n")
		if err := os.Chtimes(path, time.Time{}, time.Unix(1_000_000, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tokenCheckInterval)
		expect("third--token")

		for name, damage := range map[string]func(){
			"empty":     func() { writeToken(t, path, " \n") },
			"two lines": func() { writeToken(t, path, "one\ntwo") },
			"not ASCII": func() { writeToken(t, path, "tök") },
			"gone":      func() { _ = os.Remove(path) },
			"a folder":  func() { _ = os.Remove(path); _ = os.Mkdir(path, 0o700) },
		} {
			damage()
			time.Sleep(tokenCheckInterval)
			if got := f.header(); got != "Bearer third--token" {
				t.Errorf("%s: the header is %q, want the last good token", name, got)
			}
			_ = os.Remove(path)
		}
		writeToken(t, path, "fourth")
		time.Sleep(tokenCheckInterval)
		expect("fourth")
	})
}

func TestATokenFileThatCannotBeUsedAtTheStart(t *testing.T) {
	for name, content := range map[string]string{
		"empty":        "",
		"blank":        " \n\t\n",
		"two words":    password + " " + password,
		"two lines":    password + "\r\nX-Header: " + password,
		"not ASCII":    password + "ö",
		"control byte": password + "\x00",
	} {
		path := filepath.Join(t.TempDir(), "token")
		writeToken(t, path, content)
		_, err := OpenTokenFile(path, hclog.NewNullLogger())
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		if !strings.Contains(err.Error(), "--mc-token-file") || shows(fmt.Sprintf("%v %+v %#v", err, err, err)) {
			t.Errorf("%s: error %q must name the flag, and nothing of the content", name, err)
		}
	}
	if _, err := OpenTokenFile(filepath.Join(t.TempDir(), "missing"), hclog.NewNullLogger()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestTheWarningAboutATokenFileDoesNotShowIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, path := openToken(t, password)
		var out bytes.Buffer
		f.log = hclog.New(&hclog.LoggerOptions{Output: &out})
		writeToken(t, path, password+"\n"+password)
		time.Sleep(tokenCheckInterval)
		f.header()
		if !strings.Contains(out.String(), "keeping the last token") || shows(out.String()) {
			t.Errorf("log: %s", out.String())
		}
	})
}

func TestNoTokenNoHeader(t *testing.T) {
	f, err := OpenTokenFile("", hclog.NewNullLogger())
	if err != nil || f.header() != "" {
		t.Errorf("header %q, error %v", f.header(), err)
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestTheTokenReachesTheController(t *testing.T) {
	file, _ := openToken(t, password)
	var out lockedBuffer
	r := newRigWith(t, patient, file, hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Trace}))
	r.controllerWith(sim.MeetingControllerConfig{ID: "mc", Region: "eu", BearerToken: password})
	r.expectOneTuple("m", r.mustJoin("m"))

	// A controller that wants another refuses, and nothing of that shows ours.
	r.log.report(fsm.MeetingController, "mc", fsm.Draining, 0)
	r.controllerWith(sim.MeetingControllerConfig{ID: "strict", Region: "eu", BearerToken: "another"})
	_, err := r.join("other")
	if !errors.Is(err, ErrUnreachable) || shows(fmt.Sprintf("%+v", err)) {
		t.Errorf("error %v, want ErrUnreachable", err)
	}
	eventually(t, "its release is given up", func() bool { return strings.Contains(out.String(), "left_to_heartbeat") })
	if !strings.Contains(out.String(), "Unauthenticated") || shows(out.String()) {
		t.Errorf("log: %s", out.String())
	}
}
