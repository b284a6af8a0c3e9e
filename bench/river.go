package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// queue is what one would build instead: a table of mails, River for the jobs,
// go-mail to send. It keeps a status, and nothing else that Postrider does.
type queue struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	sink   int
}

// sendArgs is the job.
type sendArgs struct {
	MailID int64 `json:"mail_id"`
}

func (sendArgs) Kind() string { return "send" }

type sendWorker struct {
	river.WorkerDefaults[sendArgs]
	q *queue
}

// Work sends one mail over a connection of its own.
func (w *sendWorker) Work(ctx context.Context, job *river.Job[sendArgs]) error {
	var to, subject, text, html string
	err := w.q.pool.QueryRow(ctx, "UPDATE mails SET status = 'sending' WHERE id = $1 RETURNING recipient, subject, body_text, body_html", job.Args.MailID).
		Scan(&to, &subject, &text, &html)
	if err != nil {
		return err
	}
	m, err := compose(to, subject, text, html)
	if err != nil {
		return err
	}
	c, err := mailer(w.q.sink)
	if err != nil {
		return err
	}
	if err := c.DialAndSendWithContext(ctx, m); err != nil {
		return err
	}
	_, err = w.q.pool.Exec(ctx, "UPDATE mails SET status = 'delivered' WHERE id = $1", job.Args.MailID)
	return err
}

const (
	// queueWorkers and queueConns are what River was fastest with here.
	queueWorkers = 100
	queueConns   = 20
)

func newQueue(ctx context.Context, st *stack) (*queue, error) {
	url, err := st.database(ctx, "river")
	if err != nil {
		return nil, err
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = queueConns
	q := &queue{sink: st.sinkPort}
	if q.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, err
	}
	st.quit = append(st.quit, func() error { q.pool.Close(); return nil })
	m, err := rivermigrate.New(riverpgxv5.New(q.pool), nil)
	if err != nil {
		return nil, err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	_, err = q.pool.Exec(ctx, `CREATE TABLE mails (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recipient text NOT NULL, subject text NOT NULL,
		body_text text NOT NULL, body_html text NOT NULL, status text NOT NULL DEFAULT 'queued', created_at timestamptz NOT NULL DEFAULT now());
		CREATE INDEX mails_open ON mails (id) WHERE status <> 'delivered'`)
	if err != nil {
		return nil, err
	}
	q.client, err = river.NewClient(riverpgxv5.New(q.pool), &river.Config{})
	return q, err
}

// insert makes n jobs without a worker: the most that a queue accepts.
func (q *queue) insert(ctx context.Context, n, clients int) error {
	return together(ctx, n, clients, func(ctx context.Context) error {
		_, err := q.client.Insert(ctx, sendArgs{}, &river.InsertOpts{Queue: "unworked"})
		return err
	})
}

// send stores n mails with their jobs and waits until they are delivered.
func (q *queue) send(ctx context.Context, n, clients int) (time.Duration, error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, &sendWorker{q: q})
	// A short cooldown, so that River does not wait for itself.
	c, err := river.NewClient(riverpgxv5.New(q.pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: queueWorkers, FetchCooldown: 5 * time.Millisecond}},
		Workers: workers,
	})
	if err != nil {
		return 0, err
	}
	if err := c.Start(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	err = together(ctx, n, clients, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, q.pool, func(tx pgx.Tx) error {
			var id int64
			err := tx.QueryRow(ctx, "INSERT INTO mails (recipient, subject, body_text, body_html) VALUES ($1, $2, $3, $4) RETURNING id",
				"customer@example.test", fmt.Sprintf("Your order %d", serial.Add(1)), text, html).Scan(&id)
			if err != nil {
				return err
			}
			_, err = c.InsertTx(ctx, tx, sendArgs{MailID: id}, nil)
			return err
		})
	})
	for left := 1; err == nil && left > 0; time.Sleep(drainPoll) {
		err = q.pool.QueryRow(ctx, "SELECT count(*) FROM mails WHERE status <> 'delivered'").Scan(&left)
	}
	took := time.Since(begin)
	if stopErr := c.Stop(context.WithoutCancel(ctx)); err == nil {
		err = stopErr
	}
	return took, err
}
