package pg

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"
)

// Tx is a transaction that sends few messages to Postgres. Statements whose answers are not needed
// yet are sent together with the next query: BEGIN with the first one, the last writes with COMMIT.
// A round trip costs both sides more than most of these statements do.
//
// The statements of one message run one after the other, each with a snapshot of its own, as if
// each had its own message. After an error the rest is not run.
type Tx struct {
	bun.Conn
	db *bun.DB
	// waiting has not been sent yet.
	waiting []string
	// late: something of it is a write, or answers with rows, which the driver
	// cannot tell from those of the query behind it.
	late bool
	// sent: Postgres knows of the transaction.
	sent bool
}

// InDeferredTx runs fn in a transaction at READ COMMITTED, and commits it if fn returns nil. Errors
// are translated.
func (db *DB) InDeferredTx(ctx context.Context, fn func(*Tx) error) error {
	p := &Tx{db: db.DB, waiting: []string{"BEGIN"}}
	if err := p.connect(ctx); err != nil {
		return Translate(err)
	}
	done := false
	defer func() {
		if !done { // fn failed, or panicked
			p.rollBack()
		}
		_ = p.Close() // gives the connection back
	}()
	if err := fn(p); err != nil {
		return Translate(err)
	}
	if err := ctx.Err(); err != nil {
		return Translate(err)
	}
	// A client that hangs up now does not end the commit half-way.
	_, err := p.exec(context.WithoutCancel(ctx), "COMMIT")
	done = err == nil
	return Translate(err)
}

// connect takes a connection of the pool. If none can be had, the transaction keeps the one
// that it had, closed: using or closing that again is an error and does no harm.
func (p *Tx) connect(ctx context.Context) error {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return err
	}
	p.Conn = conn
	return nil
}

// rollBackWithin is how long a server may take to forget what was done.
const rollBackWithin = 5 * time.Second

// rollBack ends the transaction; a connection on which that fails is thrown away.
func (p *Tx) rollBack() {
	if !p.sent {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollBackWithin)
	defer cancel()
	if _, err := p.Conn.Conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		_ = p.Raw(func(any) error { return driver.ErrBadConn }) // that is what this answers
	}
}

// Prefix has statements sent before the next one, in the same message. They answer without rows.
func (p *Tx) Prefix(query string, args ...any) {
	p.waiting = append(p.waiting, p.db.QueryGen().FormatQuery(query, args...))
}

// message is everything that waits, and a statement behind it.
func (p *Tx) message(query string) string {
	m := query
	if len(p.waiting) > 0 {
		m = strings.Join(append(p.waiting, query), ";\n")
	}
	p.waiting, p.late = nil, false
	return m
}

// badConns is how many connections that are gone are passed over.
const badConns = 3

// send sends a message. One of the pool's connections may have been closed by the
// server; nothing was sent on it then, and another one takes the message.
func send[R any](ctx context.Context, p *Tx, query string, run func(query string) (R, error)) (R, error) {
	text, first := p.message(query), !p.sent
	p.sent = true
	for try := 1; ; try++ {
		answer, err := run(text)
		if !first || try > badConns || !errors.Is(err, driver.ErrBadConn) {
			return answer, err
		}
		_ = p.Close() // it is gone
		if err := p.connect(ctx); err != nil {
			return answer, err
		}
	}
}

func (p *Tx) exec(ctx context.Context, query string) (sql.Result, error) {
	return send(ctx, p, query, func(text string) (sql.Result, error) { return p.Conn.Conn.ExecContext(ctx, text) })
}

// ExecContext runs a statement and tells how many rows it changed.
func (p *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.exec(ctx, p.db.QueryGen().FormatQuery(query, args...))
}

// Flush sends the deferred writes now, and returns their error.
func (p *Tx) Flush(ctx context.Context) error {
	if !p.late {
		return nil
	}
	_, err := p.exec(ctx, "SELECT")
	return err
}

// QueryContext runs a query.
func (p *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := p.Flush(ctx); err != nil {
		return nil, err
	}
	return send(ctx, p, p.db.QueryGen().FormatQuery(query, args...), func(text string) (*sql.Rows, error) { return p.Conn.Conn.QueryContext(ctx, text) })
}

// QueryRowContext is not used by queries; it is here because the interface has it.
func (p *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if _, err := p.exec(ctx, "SELECT"); err != nil {
		// The transaction has failed, and so do all further statements.
		return p.Conn.Conn.QueryRowContext(ctx, "SELECT 1 WHERE false")
	}
	return p.Conn.Conn.QueryRowContext(ctx, p.db.QueryGen().FormatQuery(query, args...))
}

// NewSelect, NewInsert, NewUpdate, NewDelete and NewRaw make statements of the transaction.
func (p *Tx) NewSelect() *bun.SelectQuery { return p.db.NewSelect().Conn(p) }

// NewInsert: see NewSelect.
func (p *Tx) NewInsert() *bun.InsertQuery { return p.db.NewInsert().Conn(p) }

// NewUpdate: see NewSelect.
func (p *Tx) NewUpdate() *bun.UpdateQuery { return p.db.NewUpdate().Conn(p) }

// NewDelete: see NewSelect.
func (p *Tx) NewDelete() *bun.DeleteQuery { return p.db.NewDelete().Conn(p) }

// NewRaw: see NewSelect.
func (p *Tx) NewRaw(query string, args ...any) *bun.RawQuery {
	return p.db.NewRaw(query, args...).Conn(p)
}

// Deferred is the transaction for writes that may wait; see the type.
func (p *Tx) Deferred() Deferred { return Deferred{p} }

// Deferred is a transaction for writes whose result is not needed before the commit. It sends them
// with the next query, or with COMMIT.
type Deferred struct{ *Tx }

// ExecContext answers without having done anything yet; an error comes with the
// next query, or with the commit.
func (l Deferred) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	l.Prefix(query, args...)
	l.late = true
	return driver.ResultNoRows, nil
}

// NewInsert, NewUpdate and NewRaw make statements that wait.
func (l Deferred) NewInsert() *bun.InsertQuery { return l.db.NewInsert().Conn(l) }

// NewUpdate: see NewInsert.
func (l Deferred) NewUpdate() *bun.UpdateQuery { return l.db.NewUpdate().Conn(l) }

// NewRaw: see NewInsert.
func (l Deferred) NewRaw(query string, args ...any) *bun.RawQuery {
	return l.db.NewRaw(query, args...).Conn(l)
}
