package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Store is a controller's view of the database. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
}

// Open connects with at most so many connections, each of which carries one statement at a time,
// and opens all of them. Statements are prepared once for each.
func Open(ctx context.Context, url string, connections int) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	config.MaxConns, config.MinConns = int32(connections), int32(connections)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", err)
	}
	var held []*pgxpool.Conn
	defer func() {
		for _, conn := range held {
			conn.Release()
		}
	}()
	for range connections {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, fmt.Errorf("open %d connections to postgres: %w", connections, err)
		}
		held = append(held, conn)
	}
	return &Store{pool: pool}, nil
}

// Close closes all connections.
func (s *Store) Close() { s.pool.Close() }

const reportStatement = `
UPDATE media_handlers
SET current_streams = $2, health_status = 'healthy', cpu_usage_percent = $3, memory_usage_percent = $4,
	bandwidth_usage_percent = $5, last_heartbeat_at = now()
WHERE handler_id = $1`

// Report stores the load report of a media handler.
func (s *Store) Report(ctx context.Context, handler string, seq int) error {
	tag, err := s.pool.Exec(ctx, reportStatement, handler, seq%1000, float32(seq%50), float32(seq%40), float32(seq%30))
	if err != nil {
		return fmt.Errorf("report for %s: %w", handler, err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("report for %s: %w", handler, pgx.ErrNoRows)
	}
	return nil
}

// Nodes are fresh for a day: what is measured is the flow, and nobody reports meanwhile.
const (
	liveStatement = `
SELECT a.meeting_controller_id
FROM meeting_assignments a JOIN meeting_controllers c ON c.controller_id = a.meeting_controller_id
WHERE a.meeting_id = $1 AND a.region = $2 AND a.ended_at IS NULL AND c.health_status <> 'unhealthy'`

	handlersStatement = `
SELECT handler_id, zone, webtransport_endpoint, grpc_endpoint, current_streams::float8 / max_streams AS load
FROM media_handlers
WHERE region = $1 AND health_status = 'healthy' AND current_streams < max_streams
	AND last_heartbeat_at > now() - interval '1 day'
ORDER BY load, last_heartbeat_at DESC
LIMIT 5`

	controllersStatement = `
SELECT controller_id, zone, webtransport_endpoint, grpc_endpoint, current_meetings::float8 / max_meetings AS load
FROM meeting_controllers
WHERE region = $1 AND health_status = 'healthy' AND current_meetings < max_meetings
	AND last_heartbeat_at > now() - interval '1 day'
ORDER BY load, last_heartbeat_at DESC
LIMIT 5`

	assignStatement = `
INSERT INTO meeting_assignments
	(meeting_id, region, meeting_controller_id, primary_handler_id, backup_handler_id, assigned_by_gc_id, assigned_at)
VALUES ($1, $2, $3, $4, $5, 'gc-1', now())
ON CONFLICT (meeting_id, region) DO UPDATE
SET meeting_controller_id = excluded.meeting_controller_id, primary_handler_id = excluded.primary_handler_id,
	backup_handler_id = excluded.backup_handler_id, assigned_by_gc_id = excluded.assigned_by_gc_id,
	assigned_at = excluded.assigned_at, ended_at = NULL
WHERE meeting_assignments.ended_at IS NOT NULL
RETURNING meeting_controller_id`
)

// ErrNobody: the region has no node that could be given a meeting.
var ErrNobody = errors.New("no candidate in the region")

// Assign joins a meeting: it looks for the live assignment, then for candidates, draws among them,
// and inserts.
func (s *Store) Assign(ctx context.Context, meeting, region string) error {
	var controller string
	err := s.pool.QueryRow(ctx, liveStatement, meeting, region).Scan(&controller)
	if err == nil {
		return nil
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look for the assignment of %s: %w", meeting, err)
	}
	handlers, err := s.candidates(ctx, handlersStatement, region)
	if err != nil {
		return fmt.Errorf("look for media handlers in %s: %w", region, err)
	}
	controllers, err := s.candidates(ctx, controllersStatement, region)
	if err != nil {
		return fmt.Errorf("look for meeting controllers in %s: %w", region, err)
	}
	if len(handlers) < 2 || len(controllers) == 0 {
		return ErrNobody
	}
	primary := rand.IntN(len(handlers))
	backup := (primary + 1 + rand.IntN(len(handlers)-1)) % len(handlers)
	err = s.pool.QueryRow(ctx, assignStatement, meeting, region, controllers[rand.IntN(len(controllers))].ID,
		handlers[primary].ID, handlers[backup].ID).Scan(&controller)
	if err != nil {
		return fmt.Errorf("assign %s: %w", meeting, err)
	}
	return nil
}

// candidate is what a choice needs to know, and what a client is told.
type candidate struct {
	ID, Zone, WebTransport, GRPC string
	Load                         float64
}

func (s *Store) candidates(ctx context.Context, statement, region string) ([]candidate, error) {
	rows, err := s.pool.Query(ctx, statement, region)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[candidate])
}

// Reason names an error in a sample.
func Reason(err error) string {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return "SQLSTATE_" + refused.Code
	case errors.Is(err, pgx.ErrNoRows):
		return "WRONG_ANSWER"
	case errors.Is(err, ErrNobody):
		return "NO_CANDIDATES"
	case errors.Is(err, context.DeadlineExceeded):
		return "DeadlineExceeded"
	}
	return "FAILED"
}
