package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Clock is what a database says when a statement asks for now() or clock_timestamp().
type Clock struct{ db *sql.DB }

// SetUpClock makes a database show the given time for every now() and clock_timestamp(). It stands
// still until Set moves it. Sessions that are open already are not affected, so call it before the
// store is opened. CURRENT_TIMESTAMP goes on showing the real time.
func SetUpClock(ctx context.Context, db *sql.DB, at time.Time) (*Clock, error) {
	// In front of pg_catalog on the search path, these functions hide the built-in ones.
	_, err := db.ExecContext(ctx, `
		CREATE SCHEMA clock;
		CREATE TABLE clock.hand (stands timestamptz NOT NULL);
		INSERT INTO clock.hand VALUES ('-infinity');
		CREATE FUNCTION clock.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT stands FROM clock.hand';
		CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT stands FROM clock.hand';
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = clock, public, pg_catalog', current_database()); END $$`)
	if err != nil {
		return nil, fmt.Errorf("set up the database's clock: %w", err)
	}
	c := &Clock{db: db}
	return c, c.Set(ctx, at)
}

// Set moves the clock.
func (c *Clock) Set(ctx context.Context, at time.Time) error {
	if _, err := c.db.ExecContext(ctx, "UPDATE clock.hand SET stands = $1", at); err != nil {
		return fmt.Errorf("set the database's clock: %w", err)
	}
	return nil
}
