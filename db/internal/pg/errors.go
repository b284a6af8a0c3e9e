package pg

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"

	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/email"
)

// SQLSTATE codes and classes by which Translate tells errors apart.
const (
	sqlUniqueViolation = "23505"
	sqlUndefinedTable  = "42P01"
	// These are what a statement meets where a migration has not been applied.
	sqlUndefinedColumn   = "42703"
	sqlUndefinedFunction = "42883"
)

// NotFound is the error of a query bounded by a customer, for everything outside that bound.
func NotFound(what string) *email.Failure {
	return email.Fail(email.CodeNotFound, "there is no such %s", what)
}

// Translate turns the driver's errors into those that callers can act upon: CodeUnavailable where
// Postgres does not answer, does not answer before the context's deadline, is overloaded, or has no
// schema or an older one. A Failure passes through, and so does context.Canceled.
func Translate(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*email.Failure](err); ok {
		return err
	}
	if pg, ok := errors.AsType[pgdriver.Error](err); ok {
		state := pg.Field('C')
		switch {
		case state == sqlUndefinedTable:
			f := email.Fail(email.CodeUnavailable, "the database has no schema yet: run `postrider migrate up`")
			f.Err = err
			return f
		case state == sqlUndefinedColumn, state == sqlUndefinedFunction:
			f := email.Fail(email.CodeUnavailable, "the database's schema is older than this program: run `postrider migrate up`")
			f.Err = err
			return f
		case len(state) == 5 && (state[:2] == "08" || state[:2] == "53" || state[:2] == "57" || state[:2] == "58" || state == "55P03" || state == "40001" || state == "40P01"):
			return unavailable(err)
		}
		return err
	}
	// The driver says EOF where a server went away between two statements. A deadline that ends
	// during a statement is a net.OpError. One that ends before it, or between two rows, is a
	// context.DeadlineExceeded.
	_, broken := errors.AsType[*net.OpError](err)
	for _, gone := range []error{context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, sql.ErrConnDone} {
		broken = broken || errors.Is(err, gone)
	}
	if broken {
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error {
	f := email.Fail(email.CodeUnavailable, "the database does not answer; try again shortly")
	f.Err = err
	return f
}

// UniqueViolation names the constraint that an insert ran into, or "".
func UniqueViolation(err error) string {
	if pg, ok := errors.AsType[pgdriver.Error](err); ok && pg.Field('C') == sqlUniqueViolation {
		return pg.Field('n')
	}
	return ""
}
