package postgres

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/conclave-rtc/conclave/bench/nodes"
)

// A real server takes reports and assigns meetings, and is gone after Stop.
func TestServerTakesReportsAndMeetings(t *testing.T) {
	bin, err := Find()
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// Not t.TempDir: another user must be able to enter it.
	above, err := os.MkdirTemp("", "postgres-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(above)
	if err := os.Chmod(above, 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := Start(ctx, bin, filepath.Join(above, "postgres"), 20)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	size := nodes.Size{Regions: 2, MediaHandlers: 20, Controllers: 6}
	if err := Fill(ctx, server.URL, size); err != nil {
		t.Fatal(err)
	}
	store, err := Open(ctx, server.URL, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Report(ctx, size.MediaHandler(3).ID, 7); err != nil {
		t.Errorf("report: %v", err)
	}
	if err := store.Report(ctx, "stranger", 7); Reason(err) != "WRONG_ANSWER" {
		t.Errorf("a report of a stranger: %v", err)
	}
	for range 2 { // the second time it is there
		if err := store.Assign(ctx, "standup", size.Region(1)); err != nil {
			t.Errorf("assign: %v", err)
		}
	}
	if err := store.Assign(ctx, "standup", "nowhere"); !errors.Is(err, ErrNobody) {
		t.Errorf("assign where nobody is: %v", err)
	}
	checkRows(ctx, t, server.URL)
	store.Close()
	server.Stop()
	if _, err := pgx.Connect(ctx, server.URL); err == nil {
		t.Error("it answers after Stop")
	}
}

func checkRows(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var streams, assignments int
	var durable string
	err = errors.Join(
		conn.QueryRow(ctx, "SELECT current_streams FROM media_handlers WHERE handler_id = 'mh-000003'").Scan(&streams),
		conn.QueryRow(ctx, "SELECT count(*) FROM meeting_assignments").Scan(&assignments),
		conn.QueryRow(ctx, "SELECT current_setting('fsync') || ' ' || current_setting('synchronous_commit')").Scan(&durable),
	)
	if err != nil || streams != 7 || assignments != 1 || durable != "on on" {
		t.Errorf("streams %d, assignments %d, fsync and synchronous_commit %q (%v); want 7, 1, on on", streams, assignments, durable, err)
	}
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	_, err := Start(t.Context(), "/nowhere", filepath.Join(t.TempDir(), "postgres"), 20)
	if err == nil || !strings.Contains(err.Error(), "initdb") {
		t.Errorf("error is %v, want one that names initdb", err)
	}
}

func TestNewestVersionIsTheHighest(t *testing.T) {
	if majorOf("/usr/lib/postgresql/9.6/bin/postgres") >= majorOf("/usr/lib/postgresql/15/bin/postgres") {
		t.Error("9.6 is not older than 15")
	}
}
