package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	conclavev1 "github.com/conclave-rtc/conclave/proto/conclave/v1"
)

// now is the time at which tables are made in tests.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func before(age time.Duration) *timestamppb.Timestamp { return timestamppb.New(now.Add(-age)) }

// checkTable compares a table with the lines wanted; the first line of want is blank.
func checkTable(t *testing.T, want string, fill func(*tabwriter.Writer)) {
	t.Helper()
	var got bytes.Buffer
	if err := printTable(&got, fill); err != nil {
		t.Fatal(err)
	}
	if got.String() != strings.TrimPrefix(want, "\n") {
		t.Errorf("got:\n%s\nwant:%s", got.String(), want)
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		then *timestamppb.Timestamp
		want string
	}{
		{nil, "never"},
		{before(-5 * time.Second), "0s ago"},
		{before(3900 * time.Millisecond), "3s ago"},
		{before(59 * time.Second), "59s ago"},
		{before(60 * time.Second), "1m ago"},
		{before(90 * time.Minute), "1h ago"},
		{before(47 * time.Hour), "47h ago"},
		{before(49 * time.Hour), "2d ago"},
	}
	for _, test := range tests {
		if got := ago(now, test.then); got != test.want {
			t.Errorf("ago(%v) = %q, want %q", test.then, got, test.want)
		}
	}
}

func TestCellsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	checkTable(t, `
A          B    C
two lines  -    �[31mred
a b        0.5  é
`, func(table *tabwriter.Writer) {
		row(table, "A", "B", "C")
		row(table, "two\nlines\n", "", "\x1b[31mred")
		row(table, "a\tb", 0.5, "é")
	})
}

// protojson varies its blanks on purpose, so that programs do not compare bytes; people do.
func TestJSONIsStableAndComplete(t *testing.T) {
	t.Parallel()
	list := &conclavev1.ListMediaHandlersResponse{
		MediaHandlers: []*conclavev1.MediaHandler{{HandlerId: "a<b", Load: 0.25}}, Index: 1 << 60,
	}
	var got bytes.Buffer
	if err := printMessage(&got, outputJSON, list, nil); err != nil {
		t.Fatal(err)
	}
	want := `{
  "media_handlers": [
    {
      "handler_id": "a<b",
      "region": "",
      "zone": "",
      "webtransport_endpoint": "",
      "grpc_endpoint": "",
      "max_streams": 0,
      "current_streams": 0,
      "health": "PENDING",
      "cpu_usage_percent": 0,
      "memory_usage_percent": 0,
      "bandwidth_usage_percent": 0,
      "load": 0.25,
      "in_flight": 0,
      "registered_at": null,
      "last_report_at": null
    }
  ],
  "next_page_token": "",
  "index": "1152921504606846976"
}
`
	if got.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
	}
}

// brokenPipe fails as a closed standard output does.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"table", "json"} {
		var stderr bytes.Buffer
		code := run(t.Context(), []string{"version", "-o", format}, brokenPipe{}, &stderr, func(string) string { return "" })
		if code != exitFailed || stderr.String() != "conclave: writing the output: broken pipe\n" {
			t.Errorf("%s: exit code %d, stderr %q", format, code, stderr.String())
		}
	}
}
