package accounts

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

type userRow struct {
	bun.BaseModel `bun:"table:users,alias:u"`

	ID           string `bun:"id,pk,type:uuid"`
	CustomerID   string `bun:"customer_id,type:uuid"`
	Username     string `bun:"username"`
	PasswordHash string `bun:"password_hash"`
	Admin        bool   `bun:"admin"`
	// TokenVersion is raised to end all login tokens that were issued before.
	TokenVersion int       `bun:"token_version"`
	CreatedAt    time.Time `bun:"created_at,nullzero,default:now()"`
}

func (r *userRow) cursor() (time.Time, string) { return r.CreatedAt, r.ID }

func (r *userRow) user() account.User {
	return account.User{ID: r.ID, CustomerID: r.CustomerID, Username: r.Username, Admin: r.Admin, TokenVersion: r.TokenVersion, CreatedAt: pg.UTC(r.CreatedAt)}
}

// MaxUsers is how many users a customer may have.
const MaxUsers = 1000

// CreateUser makes a user of a customer. A username in use is a CodeConflict, and so are more than
// MaxUsers.
func (s *Store) CreateUser(ctx context.Context, customerID, username, password string, admin bool) (account.User, error) {
	if _, err := s.Customer(ctx, customerID); err != nil {
		return account.User{}, err
	}
	row := userRow{ID: pg.NewID(), CustomerID: customerID, Username: username, PasswordHash: s.hash(password), Admin: admin}
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		if err := pg.LockCustomer(ctx, tx, customerID); err != nil {
			return err
		}
		if err := pg.CheckRoom(ctx, tx, "users", MaxUsers, "delete one", "SELECT count(*) FROM users WHERE customer_id = ?", customerID); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&row).Returning("created_at").Exec(ctx); err != nil {
			if pg.UniqueViolation(err) != "" {
				return email.Fail(email.CodeConflict, "the username %s is in use", username)
			}
			return err
		}
		return audit.Write(ctx, tx, customerID, "user.created", row.ID, username)
	})
	return row.user(), err
}

// EnsureUser makes sure that a customer has a user with this username and password. A user
// that has them is left alone, so that its login tokens stay good. A username of another
// customer is a conflict.
func (s *Store) EnsureUser(ctx context.Context, customerID, username, password string) error {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("u.username = ?", username).Scan(ctx)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = s.CreateUser(ctx, customerID, username, password, false)
		return err
	case err != nil:
		return pg.Translate(err)
	case row.CustomerID != customerID:
		return email.Fail(email.CodeConflict, "the username %s is in use", username)
	case verifyPassword(row.PasswordHash, password):
		return nil
	}
	_, err = s.SetPassword(ctx, customerID, row.ID, password)
	return err
}

// Users lists a customer's users, newest first.
func (s *Store) Users(ctx context.Context, customerID string, after email.Cursor, limit int) (out []account.User, next *email.Cursor, err error) {
	q := s.db.NewSelect().Where("u.customer_id = ?", customerID)
	return pg.List(ctx, q, "u", "created_at", after, limit, (*userRow).cursor, (*userRow).user)
}

// User reads one user of a customer by id. A user that the customer does not have is a
// CodeNotFound.
func (s *Store) User(ctx context.Context, customerID, id string) (account.User, error) {
	return s.userWhere(ctx, customerID, "u.id = ?", id)
}

// UserByName reads one user of a customer by username. A user that the customer does not have is a
// CodeNotFound.
func (s *Store) UserByName(ctx context.Context, customerID, username string) (account.User, error) {
	return s.userWhere(ctx, customerID, "u.username = ?", username)
}

func (s *Store) userWhere(ctx context.Context, customerID, where, value string) (account.User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("u.customer_id = ?", customerID).Where(where, value).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.User{}, pg.NotFound("user")
	}
	return row.user(), pg.Translate(err)
}

// SetPassword gives a customer's user another password. All of its login tokens end. A user that
// the customer does not have is a CodeNotFound.
func (s *Store) SetPassword(ctx context.Context, customerID, id, password string) (account.User, error) {
	hash := s.hash(password) // before the transaction: hashing takes long
	return s.newVersion(ctx, customerID, id, "user.password_changed", func(q *bun.UpdateQuery) *bun.UpdateQuery {
		return q.Set("password_hash = ?", hash)
	})
}

// ChangePassword gives a user another password if the present one is right: CodeForbidden
// else, which the audit notes. CodeConflict means that it was changed at the same time. All
// login tokens of the user end.
func (s *Store) ChangePassword(ctx context.Context, id, present, password string) (account.User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("u.id = ?", id).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.User{}, pg.NotFound("user")
	}
	if err != nil {
		return account.User{}, pg.Translate(err)
	}
	if !verifyPassword(row.PasswordHash, present) {
		if err := audit.Write(ctx, s.db, row.CustomerID, "user.password_refused", row.ID, row.Username); err != nil {
			return account.User{}, pg.Translate(err)
		}
		return account.User{}, email.Fail(email.CodeForbidden, "the present password is wrong")
	}
	hash := s.hash(password) // before the transaction: hashing takes long
	u, err := s.newVersion(ctx, row.CustomerID, id, "user.password_changed", func(q *bun.UpdateQuery) *bun.UpdateQuery {
		// Of two changes at once, the second one's present password is no longer right.
		return q.Set("password_hash = ?", hash).Where("u.password_hash = ?", row.PasswordHash)
	})
	if email.FailureCode(err) == email.CodeNotFound {
		return u, email.Fail(email.CodeConflict, "the password was changed at the same time; log in with the new one")
	}
	return u, err
}

// RevokeUser ends all login tokens of a customer's user. The password stays. A user that the
// customer does not have is a CodeNotFound.
func (s *Store) RevokeUser(ctx context.Context, customerID, id string) (account.User, error) {
	return s.newVersion(ctx, customerID, id, "user.revoked", func(q *bun.UpdateQuery) *bun.UpdateQuery { return q })
}

// newVersion changes a user and ends all of its login tokens.
func (s *Store) newVersion(ctx context.Context, customerID, id, action string, change func(*bun.UpdateQuery) *bun.UpdateQuery) (account.User, error) {
	var row userRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		q := tx.NewUpdate().Model(&row).Set("token_version = u.token_version + 1").Set("updated_at = now()").
			Where("u.id = ?", id).Where("u.customer_id = ?", customerID).Returning("u.*")
		err := q.Apply(change).Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("user")
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, action, id, row.Username)
	})
	return row.user(), err
}

// DeleteUser ends a user of a customer. The tokens of its logins end with it, and the username is
// free again. A user that the customer does not have is a CodeNotFound.
func (s *Store) DeleteUser(ctx context.Context, customerID, id string) (account.User, error) {
	var row userRow
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		err := tx.NewDelete().Model(&row).Where("u.customer_id = ?", customerID).Where("u.id = ?", id).Returning("u.*").Scan(ctx)
		if errors.Is(err, sql.ErrNoRows) {
			return pg.NotFound("user")
		}
		if err != nil {
			return err
		}
		return audit.Write(ctx, tx, customerID, "user.deleted", id, row.Username)
	})
	return row.user(), err
}

// Authenticate checks a username and password. It writes the login, or its failure, into the audit
// log with the address of ctx's actor.
//
// Its error is CodeUnauthorized for a wrong name and for a wrong password, after the same time. The
// returned user is then the one who has the name, for the log, and zero if there is none. A name
// that no user has is not written down: it may be a password that was typed into the wrong field.
func (s *Store) Authenticate(ctx context.Context, username, password string) (account.User, error) {
	var row userRow
	err := s.db.NewSelect().Model(&row).Where("u.username = ?", username).Scan(ctx)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return account.User{}, pg.Translate(err)
	}
	hash, why := row.PasswordHash, "wrong password"
	if hash == "" {
		hash, why = s.absent(), "unknown username"
	}
	if !verifyPassword(hash, password) || row.ID == "" {
		if err := audit.Write(ctx, s.db, row.CustomerID, "user.login_failed", row.ID, why); err != nil {
			return account.User{}, pg.Translate(err)
		}
		return row.user(), email.Fail(email.CodeUnauthorized, "wrong username or password")
	}
	a := account.ActorOf(ctx)
	a.Name = "user:" + row.ID
	if err := audit.Write(account.WithActor(ctx, a), s.db, row.CustomerID, "user.login", row.ID, ""); err != nil {
		return account.User{}, pg.Translate(err)
	}
	return row.user(), nil
}

// GrantByUser finds what a user's login stands for. A user that is deleted is a CodeUnauthorized.
func (s *Store) GrantByUser(ctx context.Context, userID string) (account.Grant, error) {
	var u userRow
	err := s.db.NewSelect().Model(&u).Where("u.id = ?", userID).Scan(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return account.Grant{}, email.Fail(email.CodeUnauthorized, "the user is gone; log in again")
	}
	if err != nil {
		return account.Grant{}, pg.Translate(err)
	}
	g := account.Grant{Actor: "user:" + u.ID, UserID: u.ID, TokenVersion: u.TokenVersion}
	if u.Admin {
		g.Scopes = []account.Scope{account.ScopeAdmin}
	}
	g.Customer, err = s.Customer(ctx, u.CustomerID)
	return g, err
}
