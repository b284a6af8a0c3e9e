package api

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Users manages the users of customers, for the operator.
type Users interface {
	Users(ctx context.Context, customerID string, after email.Cursor, limit int) ([]account.User, *email.Cursor, error)
	User(ctx context.Context, customerID, id string) (account.User, error)
	DeleteUser(ctx context.Context, customerID, id string) (account.User, error)
	// SetPassword and RevokeUser revoke all login tokens of the user.
	SetPassword(ctx context.Context, customerID, id, password string) (account.User, error)
	RevokeUser(ctx context.Context, customerID, id string) (account.User, error)
}

// userHandlers answers /v1.0/customers/:id/users.
type userHandlers struct {
	customer  pathCustomer
	store     Users
	passwords *passwordChecks
}

type userAnswer struct {
	ID         string  `json:"id"`
	CustomerID string  `json:"customer_id"`
	Username   string  `json:"username"`
	Admin      bool    `json:"admin"`
	CreatedAt  *string `json:"created_at"`
}

func newUserAnswer(u account.User) userAnswer {
	return userAnswer{ID: u.ID, CustomerID: u.CustomerID, Username: u.Username, Admin: u.Admin, CreatedAt: moment(u.CreatedAt)}
}

func (h *userHandlers) list(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	return listPage(c, k.ID, h.store.Users, newUserAnswer)
}

// one returns a handler for the user that the path names. It applies change, which may be nil, and
// answers with the user.
func (h *userHandlers) one(change func(c *gin.Context, u account.User) (account.User, error)) handler {
	return func(c *gin.Context) (int, any, error) {
		k, err := h.customer.read(c)
		if err != nil {
			return 0, nil, err
		}
		id, err := pathID(c, "user", "user")
		if err != nil {
			return 0, nil, err
		}
		u, err := h.store.User(c.Request.Context(), k.ID, id)
		if err == nil && change != nil {
			if err = coveredUser(c, u); err == nil {
				u, err = change(c, u)
			}
		}
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, newUserAnswer(u), nil
	}
}

// coveredUser refuses to change a user with more rights than the credential of the request. A
// client that sets a password can log in as the user.
func coveredUser(c *gin.Context, u account.User) error {
	if member, why := grantOf(c).Exceeded(u.Rights()); member != "" {
		return email.Fail(email.CodeForbidden, "the user has more rights than this credential: %s", why)
	}
	return nil
}

func (h *userHandlers) delete(c *gin.Context, u account.User) (account.User, error) {
	return h.store.DeleteUser(c.Request.Context(), u.CustomerID, u.ID)
}

func (h *userHandlers) revoke(c *gin.Context, u account.User) (account.User, error) {
	return h.store.RevokeUser(c.Request.Context(), u.CustomerID, u.ID)
}

type newPasswordRequest struct {
	Password string `json:"password"`
}

func (h *userHandlers) setPassword(c *gin.Context, u account.User) (account.User, error) {
	var in newPasswordRequest
	if err := decode(c, &in); err != nil {
		return account.User{}, err
	}
	if err := account.CheckPassword(in.Password); err != nil {
		return account.User{}, invalid("/password", "invalid", err.Error())
	}
	err := h.passwords.hash(c, func(ctx context.Context) (err error) {
		u, err = h.store.SetPassword(ctx, u.CustomerID, u.ID, in.Password)
		return err
	})
	return u, err
}
