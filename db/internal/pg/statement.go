package pg

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// Statement is a prepared statement. Each connection prepares, when it is made, the statements that
// every e-mail needs: Postgres takes longer to plan most of them than to run them. They are called
// by EXECUTE, which goes into messages with others. Columns are named, never *: a migration may add
// some while this process runs.
//
// A connection has to be one session of Postgres to its end. A pooler that gives each transaction
// another session would not know the statements.
type Statement struct{ name string }

// prepared are the statements that each connection prepares: name, types of parameters, SQL.
var prepared []string

// Prepare registers a statement. It belongs into a package variable beside its use, because an open
// database does not prepare it any more. The signature is name and parameters' types, as
// "find_plan(uuid)".
func Prepare(signature, sql string) Statement {
	name, _, _ := strings.Cut(signature, "(")
	for _, p := range prepared {
		if strings.HasPrefix(p, name+"(") {
			panic("two prepared statements have the name " + name)
		}
	}
	prepared = append(prepared, signature+" AS "+sql)
	return Statement{name}
}

// Query is a call of the statement.
func (s Statement) Query(idb bun.IDB, args ...any) *bun.RawQuery {
	return idb.NewRaw("EXECUTE "+s.name+"(?"+strings.Repeat(", ?", len(args)-1)+")", args...)
}

// RowsStatement is a statement for several rows, with a second version for a single row. The second
// one tells the planner that there is one. For a set of unknown size the planner expects more rows,
// and reads a small table in full for them.
type RowsStatement struct{ many, one Statement }

// PrepareRows registers a statement that has LIMIT $2 where the number of rows counts.
func PrepareRows(signature, sql string) RowsStatement {
	name, parameters, _ := strings.Cut(signature, "(")
	return RowsStatement{Prepare(signature, sql), Prepare(name+"_one("+parameters, strings.ReplaceAll(sql, "LIMIT $2", "LIMIT 1"))}
}

// Query is a call of the statement for so many rows.
func (s RowsStatement) Query(idb bun.IDB, rows int, args ...any) *bun.RawQuery {
	if rows == 1 {
		return s.one.Query(idb, args...)
	}
	return s.many.Query(idb, args...)
}

// Counted makes an update fail that does not change the $2 rows whose keys are $3. The error names
// the rows that it did not change, and the transaction is rolled back.
func Counted(update, table, key string) string {
	return "WITH changed AS (" + update + " RETURNING " + key + " AS key) SELECT CASE WHEN (SELECT count(*) FROM changed) = $2 THEN 1 " +
		"ELSE rows_not_written('" + table + "', $2, ARRAY(SELECT unnest($3) EXCEPT SELECT key FROM changed)) END"
}

// Columns are those of a model's table.
func Columns[R any](alias string) string {
	var names []string
	for _, f := range pgdialect.New().Tables().Get(reflect.TypeFor[R]()).Fields {
		if !f.Tag.HasOption("scanonly") {
			names = append(names, alias+"."+f.Name)
		}
	}
	return strings.Join(names, ", ")
}

// preparing makes connections that know the prepared statements. Without the schema no connection
// is made, and the error says so.
type preparing struct{ driver.Connector }

// Connect opens a connection.
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's %T runs no statements", conn), conn.Close())
	}
	if _, err := execer.ExecContext(ctx, "PREPARE "+strings.Join(prepared, ";\nPREPARE "), nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}
