package db_test

import (
	"testing"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/internal/dbtest"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// bench is a store on a database of its own; see dbsetup.
type bench struct{ *dbsetup.Bench }

func setup(t *testing.T) *bench {
	t.Helper()
	return &bench{dbsetup.New(t)}
}

func setupOn(t *testing.T, url string) *bench {
	t.Helper()
	return &bench{dbsetup.On(t, url)}
}
