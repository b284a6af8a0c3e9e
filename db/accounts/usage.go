package accounts

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Audit lists what was done, newest first: to a customer's things, or to
// everybody's where customerID is empty.
func (s *Store) Audit(ctx context.Context, customerID string, after email.Cursor, limit int) (out []account.Audited, next *email.Cursor, err error) {
	return audit.List(ctx, s.db, customerID, after, limit)
}

// usageShards is over how many rows a customer's month is counted: a row is locked
// until its transaction has committed.
const usageShards = 16

var writeUsage = pg.Prepare("write_usage(uuid, integer, bigint, bigint)", `INSERT INTO usage AS u (customer_id, month, shard, emails, recipients)
	VALUES ($1, date_trunc('month', now() AT TIME ZONE 'UTC')::date, $2, $3, $4)
	ON CONFLICT (customer_id, month, shard) DO UPDATE SET emails = u.emails + $3, recipients = u.recipients + $4`)

// Charge counts accepted e-mails, and takes their recipients from the prepaid credits. It locks
// rows that the customer's other acceptances wait for, so it is the last step before the commit.
// Too few credits are a CodeCredits.
func Charge(ctx context.Context, tx *pg.Tx, customerID string, emails, recipients int, prepaid bool) error {
	if prepaid {
		if err := pay(ctx, tx, customerID, recipients); err != nil {
			return err
		}
	}
	_, err := writeUsage.Query(tx.Deferred(), customerID, rand.IntN(usageShards), emails, recipients).Exec(ctx)
	if err != nil {
		return fmt.Errorf("count usage: %w", err)
	}
	return nil
}

// pay takes credits, all or none.
func pay(ctx context.Context, tx *pg.Tx, customerID string, recipients int) error {
	var left int64
	err := tx.NewRaw("SELECT credits FROM customers WHERE id = ? FOR NO KEY UPDATE", customerID).Scan(ctx, &left)
	if err != nil {
		return fmt.Errorf("read credits: %w", err)
	}
	if err := affordable(recipients, left); err != nil {
		return err
	}
	if _, err := tx.Deferred().NewRaw("UPDATE customers SET credits = credits - ? WHERE id = ?", recipients, customerID).Exec(ctx); err != nil {
		return fmt.Errorf("take credits: %w", err)
	}
	return nil
}

// CheckCredits refuses what Charge would refuse of a customer that has prepaid, with CodeCredits,
// and takes nothing.
func CheckCredits(ctx context.Context, idb bun.IDB, customerID string, recipients int) error {
	var left int64
	if err := idb.NewRaw("SELECT credits FROM customers WHERE id = ?", customerID).Scan(ctx, &left); err != nil {
		return fmt.Errorf("read credits: %w", err)
	}
	return affordable(recipients, left)
}

func affordable(recipients int, left int64) error {
	if left < int64(recipients) {
		needs, are := fmt.Sprintf("there are %d recipients, which take %d credits", recipients, recipients), "are"
		if recipients == 1 {
			needs = "there is 1 recipient, which takes 1 credit"
		}
		if left == 1 {
			are = "is"
		}
		return email.Fail(email.CodeCredits, "%s, and %d %s left; ask the operator for more", needs, left, are)
	}
	return nil
}

// Usage lists what a customer sent, by month, the newest first.
func (s *Store) Usage(ctx context.Context, customerID string, months int) (out []account.Usage, err error) {
	err = s.db.NewRaw(`SELECT month, sum(emails)::bigint AS emails, sum(recipients)::bigint AS recipients FROM usage
		WHERE customer_id = ? GROUP BY month ORDER BY month DESC LIMIT ?`, customerID, months).Scan(ctx, &out)
	return out, pg.Translate(err)
}
