// Package audit writes the audit log: who has done what to whose things.
package audit

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

type entry struct {
	bun.BaseModel `bun:"table:audit,alias:au"`

	ID         string    `bun:"id,pk,type:uuid"`
	At         time.Time `bun:"at,nullzero,default:now()"`
	CustomerID string    `bun:"customer_id,type:uuid,nullzero"`
	Actor      string    `bun:"actor"`
	RemoteAddr string    `bun:"remote_addr"`
	RequestID  string    `bun:"request_id"`
	Action     string    `bun:"action"`
	Target     string    `bun:"target"`
	Detail     string    `bun:"detail"`
}

func (r *entry) cursor() (time.Time, string) { return r.At, r.ID }

func (r *entry) audited() account.Audited {
	return account.Audited{
		ID: r.ID, At: pg.UTC(r.At), CustomerID: r.CustomerID, Action: r.Action, Target: r.Target, Detail: r.Detail,
		Actor: account.Actor{Name: r.Actor, RemoteAddr: r.RemoteAddr, RequestID: r.RequestID},
	}
}

// Write notes what the actor of ctx does, in the transaction that does it.
func Write(ctx context.Context, idb bun.IDB, customerID, action, target, detail string) error {
	a := account.ActorOf(ctx)
	r := entry{
		ID: pg.NewID(), CustomerID: customerID, Actor: a.Name, RemoteAddr: a.RemoteAddr, RequestID: a.RequestID,
		Action: action, Target: target, Detail: pg.CleanText(detail),
	}
	if _, err := idb.NewInsert().Model(&r).Exec(ctx); err != nil {
		return fmt.Errorf("audit %s: %w", action, err)
	}
	return nil
}

// List lists what was done, newest first: to a customer's things, or to
// everybody's where customerID is empty.
func List(ctx context.Context, idb bun.IDB, customerID string, after email.Cursor, limit int) (out []account.Audited, next *email.Cursor, err error) {
	q := idb.NewSelect()
	if customerID != "" {
		q = q.Where("au.customer_id = ?", customerID)
	}
	return pg.List(ctx, q, "au", "at", after, limit, (*entry).cursor, (*entry).audited)
}
