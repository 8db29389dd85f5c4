package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/conclave-rtc/conclave/bench/nodes"
)

// schema has the indexes that the statements ask for, and no others. What changes with every report
// is in none of them, so that PostgreSQL can update in place.
const schema = `
CREATE TABLE media_handlers (
	handler_id              text PRIMARY KEY,
	region                  text NOT NULL,
	zone                    text NOT NULL,
	webtransport_endpoint   text NOT NULL,
	grpc_endpoint           text NOT NULL,
	max_streams             integer NOT NULL,
	current_streams         integer NOT NULL,
	health_status           text NOT NULL,
	cpu_usage_percent       real,
	memory_usage_percent    real,
	bandwidth_usage_percent real,
	last_heartbeat_at       timestamptz NOT NULL
);
CREATE INDEX ON media_handlers (region, health_status);

CREATE TABLE meeting_controllers (
	controller_id         text PRIMARY KEY,
	region                text NOT NULL,
	zone                  text NOT NULL,
	webtransport_endpoint text NOT NULL,
	grpc_endpoint         text NOT NULL,
	max_meetings          integer NOT NULL,
	current_meetings      integer NOT NULL,
	health_status         text NOT NULL,
	last_heartbeat_at     timestamptz NOT NULL
);
CREATE INDEX ON meeting_controllers (region, health_status);

CREATE TABLE meeting_assignments (
	meeting_id            text NOT NULL,
	region                text NOT NULL,
	meeting_controller_id text NOT NULL REFERENCES meeting_controllers,
	primary_handler_id    text NOT NULL,
	backup_handler_id     text NOT NULL,
	assigned_by_gc_id     text NOT NULL,
	assigned_at           timestamptz NOT NULL,
	ended_at              timestamptz,
	PRIMARY KEY (meeting_id, region)
);`

const (
	maxStreams  = 1_000_000
	maxMeetings = 1_000_000
)

// Fill makes the tables and puts a fleet into them, all of it healthy, with the statistics that the
// planner wants.
func Fill(ctx context.Context, url string, size nodes.Size) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, schema); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	now := time.Now()
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"media_handlers"},
		[]string{"handler_id", "region", "zone", "webtransport_endpoint", "grpc_endpoint", "max_streams", "current_streams", "health_status", "last_heartbeat_at"},
		pgx.CopyFromSlice(size.MediaHandlers, func(i int) ([]any, error) {
			mh := size.MediaHandler(i)
			return []any{mh.ID, mh.Region, mh.Zone, "https://" + mh.ID + ".bench.invalid:4433", "http://" + mh.ID + ".bench.invalid:50052",
				maxStreams, i % 1000, "healthy", now}, nil
		}))
	if err != nil {
		return fmt.Errorf("fill in the media handlers: %w", err)
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"meeting_controllers"},
		[]string{"controller_id", "region", "zone", "webtransport_endpoint", "grpc_endpoint", "max_meetings", "current_meetings", "health_status", "last_heartbeat_at"},
		pgx.CopyFromSlice(size.Controllers, func(i int) ([]any, error) {
			mc := size.Controller(i)
			return []any{mc.ID, mc.Region, mc.Zone, "https://" + mc.ID + ".bench.invalid", "http://" + mc.ID + ".bench.invalid:50071",
				maxMeetings, i % 1000, "healthy", now}, nil
		}))
	if err != nil {
		return fmt.Errorf("fill in the meeting controllers: %w", err)
	}
	for _, statement := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
