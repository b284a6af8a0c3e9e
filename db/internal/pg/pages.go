package pg

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/portion"
)

// NewestFirst orders a list from new to old and begins behind a cursor. It reads one row more than
// limit: by that row Page knows that there is another page.
func NewestFirst(alias, column string, after email.Cursor, limit int) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		at, id := bun.SafeQuery("?.?", bun.Ident(alias), bun.Ident(column)), bun.SafeQuery("?.id", bun.Ident(alias))
		q = q.OrderExpr("? DESC, ? DESC", at, id).Limit(int64(limit) + 1)
		switch {
		case after.At.IsZero():
			return q
		case after.ID == "":
			return q.Where("? < ?", at, after.At)
		}
		return q.Where("(?, ?) < (?, ?)", at, id, after.At, after.ID)
	}
}

// List reads a page of a list, newest first by a column of times, and makes an entry of each row. q
// is the query for the whole list, with its table's alias; cursor is a row's time and id.
func List[R, T any](ctx context.Context, q *bun.SelectQuery, alias, column string, after email.Cursor, limit int, cursor func(*R) (time.Time, string), entry func(*R) T) (out []T, next *email.Cursor, err error) {
	var rows []*R
	if err := q.Model(&rows).Apply(NewestFirst(alias, column, after, limit)).Scan(ctx); err != nil {
		return nil, nil, Translate(err)
	}
	rows, next = Page(rows, limit, cursor)
	for _, r := range rows {
		out = append(out, entry(r))
	}
	return out, next, nil
}

// Within is how many of the rows, and of limit, a page holds: those that have at most
// portion.Page together, and at least one. A page is in memory as a whole.
func Within[R any](rows []R, limit int, bytes func(R) int64) int {
	n, total, most := 0, int64(0), portion.Page(limit)
	for n < min(limit, len(rows)) {
		if total += bytes(rows[n]); total > most && n > 0 {
			break
		}
		n++
	}
	return n
}

// Page cuts a list that was read one row too long, and says where the next
// page begins: by time alone, unless the row behind has the same time.
func Page[R any](rows []R, limit int, cursor func(R) (time.Time, string)) ([]R, *email.Cursor) {
	if len(rows) <= limit {
		return rows, nil
	}
	at, id := cursor(rows[limit-1])
	next := &email.Cursor{At: at.UTC()}
	if behindAt, _ := cursor(rows[limit]); behindAt.Equal(at) {
		next.ID = id
	}
	return rows[:limit], next
}
