package db_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/endpoint"
)

// migrationFiles are the names of this version's migrations, oldest first.
func migrationFiles(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("migrations/*.up.sql")
	require.NoError(t, err)
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".tx.up.sql"))
	}
	return names
}

// content is the rows of each table, and the columns of each.
type content struct {
	rows    map[string]int64
	columns map[string][]string
}

func (b *bench) content() content {
	b.T.Helper()
	c := content{map[string]int64{}, map[string][]string{}}
	var columns []struct{ TableName, ColumnName string }
	require.NoError(b.T, b.Raw.NewRaw(`SELECT table_name, column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name NOT LIKE 'schema_migration%'`).Scan(b.Ctx, &columns))
	for _, col := range columns {
		c.columns[col.TableName] = append(c.columns[col.TableName], col.ColumnName)
	}
	for table := range c.columns {
		c.rows[table] = int64(b.Count("SELECT count(*) FROM " + table))
	}
	return c
}

// without returns the names in before that are not in after.
func without(before, after []string) (gone []string) {
	have := map[string]bool{}
	for _, name := range after {
		have[name] = true
	}
	for _, name := range before {
		if !have[name] {
			gone = append(gone, name)
		}
	}
	return gone
}

// finishedMail leaves rows of every kind, of which earlier schemas cannot hold all,
// and no mail that is not finished.
func (b *bench) finishedMail() {
	b.T.Helper()
	m := dbsetup.Message("bob@x.test", "eve@y.test")
	m.Attachments = []email.Attachment{{ReferenceType: email.ReferenceURL, URL: "https://cdn.test/a"}, dbsetup.Reference(b.StoreFile([]byte("x")))}
	m.CallbackURL = "https://hooks.test/a"
	canceled := b.Accept(m)
	require.NoError(b.T, b.Control(canceled.ID, email.ActionCancel))
	sent := b.Accept(dbsetup.Message("bob@x.test"))
	b.Attempt(sent.ID, 1, dbsetup.Delivered)
	_, _, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{CustomerID: b.Customer, URL: "https://hooks.test/b", Method: "POST",
		Format: endpoint.FormatStandard, Events: endpoint.DefaultEvents(endpoint.FormatStandard)})
	require.NoError(b.T, err)
	b.Exec("INSERT INTO pauses (scope, reason) VALUES ('installation', 'test')")
	b.Exec("UPDATE emails SET paused_relay = 'primary' WHERE id = ?", sent.ID)
	require.Zero(b.T, b.Count("SELECT count(*) FROM emails WHERE status IN ('queued', 'sending')"))
}

// Each step is taken back alone, also where an earlier version applied all of them as one group.
// The announced losses are what is deleted.
func TestMigrationsAreTakenBackOneByOne(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	b := setupOn(t, url)
	b.finishedMail()
	b.Exec("UPDATE schema_migrations SET group_id = 1")
	names := migrationFiles(t)
	for i := len(names) - 1; i >= 0; i-- {
		before := b.content()
		plan, err := db.PlanDown(ctx, url)
		require.NoError(t, err, names[i])
		require.Equal(t, names[i], plan.Name)
		require.Equal(t, i+1, plan.Step)
		require.Zero(t, plan.Unfinished)
		require.Equal(t, before, b.content(), "a plan changes nothing")
		done, err := db.MigrateDown(ctx, url, plan.Name)
		require.NoError(t, err, names[i])
		require.Equal(t, plan.Losses, done.Losses)
		after := b.content()

		announced := map[string]int64{}
		for _, l := range done.Losses {
			announced[l.What] = l.Rows
		}
		for table, rows := range before.rows {
			left, there := after.rows[table]
			if !there {
				require.Contains(t, announced, "table "+table, names[i])
				require.Equal(t, rows, announced["table "+table], table)
				delete(announced, "table "+table)
				continue
			}
			require.Equal(t, rows-left, announced["rows of "+table], "%s: rows of %s", names[i], table)
			delete(announced, "rows of "+table)
			for _, column := range without(before.columns[table], after.columns[table]) {
				require.Contains(t, announced, "column "+table+"."+column, names[i])
				delete(announced, "column "+table+"."+column)
			}
		}
		for what := range announced {
			require.True(t, strings.HasPrefix(what, "rows changed in "), "%s announces %s, which is still there", names[i], what)
		}
		ms, err := db.MigrationStatus(ctx, url)
		require.NoError(t, err)
		for j, m := range ms {
			require.Equal(t, j < i, !m.AppliedAt.IsZero(), "%s after %s", m.Name, names[i])
		}
	}
	_, err := db.PlanDown(ctx, url)
	require.ErrorContains(t, err, "nothing to take back")
	require.ErrorContains(t, b.Ready(ctx), "migrate up")

	type result struct {
		applied []db.Migration
		err     error
	}
	results := make(chan result)
	for range 3 {
		go func() { applied, err := db.MigrateUp(ctx, url); results <- result{applied, err} }()
	}
	var applied []db.Migration
	for range 3 {
		r := <-results
		require.NoError(t, r.err, "several processes starting at once queue up")
		applied = append(applied, r.applied...)
	}
	require.Len(t, applied, len(names), "each was applied once")
	for i, m := range applied {
		require.Equal(t, names[i], m.Name)
		require.Equal(t, i+1, m.Step)
		require.False(t, m.AppliedAt.IsZero())
	}
	require.NoError(t, b.Ready(ctx))
	require.Equal(t, len(names), b.Count("SELECT count(DISTINCT group_id) FROM schema_migrations"), "an earlier version takes back one, too")
}

func TestNothingIsTakenBackWhileMailIsOpen(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	b := setupOn(t, url)
	plan, err := db.PlanDown(ctx, url)
	require.NoError(t, err)
	require.Zero(t, plan.Unfinished)
	queued, sending := b.Accept(dbsetup.Message("bob@x.test")), b.Accept(dbsetup.Message("bob@x.test"))
	b.Open(sending.ID, 1)
	before := b.content()
	plan, err = db.PlanDown(ctx, url)
	require.NoError(t, err)
	require.EqualValues(t, 2, plan.Unfinished)
	// The plan is from before the mail: taking back looks again.
	_, err = db.MigrateDown(ctx, url, plan.Name)
	require.ErrorIs(t, err, db.ErrUnfinished)
	require.ErrorContains(t, err, "2 e-mails are not finished")
	require.Equal(t, before, b.content())
	_, err = db.MigrateDown(ctx, url, "0001_init")
	require.ErrorContains(t, err, "is no longer the newest")
	ms, err := db.MigrationStatus(ctx, url)
	require.NoError(t, err)
	require.Equal(t, len(ms), ms[len(ms)-1].Step, "it is still applied")
	require.Equal(t, queued.ID, b.Get(queued.ID).ID)
}

// A migration of a newer version is listed, left alone, and keeps older steps from being taken back
// before it.
func TestMigrationsOfANewerVersion(t *testing.T) {
	t.Parallel()
	url, ctx := dbtest.URL(t), t.Context()
	b := setupOn(t, url)
	b.Exec("INSERT INTO schema_migrations (name, group_id) VALUES ('9000', 9000)")
	applied, err := db.MigrateUp(ctx, url)
	require.NoError(t, err)
	require.Empty(t, applied)
	ms, err := db.MigrationStatus(ctx, url)
	require.NoError(t, err)
	newest := ms[len(ms)-1]
	require.Equal(t, "9000", newest.Name)
	require.True(t, newest.Unknown)
	require.Equal(t, len(ms), newest.Step)
	_, err = db.PlanDown(ctx, url)
	require.ErrorContains(t, err, "9000 was applied by a newer version")
}
