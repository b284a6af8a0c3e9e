package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// Logins checks passwords and revokes login tokens.
type Logins interface {
	// Authenticate checks a password and writes an audit entry for the login or its failure. With
	// CodeUnauthorized it returns the user of that name, the zero User if there is none.
	Authenticate(ctx context.Context, username, password string) (account.User, error)
	// ChangePassword and RevokeUser revoke all login tokens of the user. ChangePassword returns
	// CodeForbidden if the present password is wrong.
	ChangePassword(ctx context.Context, userID, present, password string) (account.User, error)
	RevokeUser(ctx context.Context, customerID, userID string) (account.User, error)
}

// authHandlers answers /auth/login and /v1.0/auth.
type authHandlers struct {
	store     Logins
	passwords *passwordChecks
	tokens    tokens
	log       *slog.Logger
}

type loginRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type loginAnswer struct {
	Username string `json:"username"`
	Token    string `json:"token"`
}

func (h *authHandlers) login(c *gin.Context) (int, any, error) {
	var in loginRequest
	if err := decodeUpTo(c, maxLoginBody, &in); err != nil {
		return 0, nil, err
	}
	switch {
	case in.Username == "":
		return 0, nil, invalid("/username", "missing", "give the username")
	case in.Password == "":
		return 0, nil, invalid("/password", "missing", "give the password")
	}
	c.Request = c.Request.WithContext(account.WithActor(c.Request.Context(), account.Actor{
		Name: "anonymous", RemoteAddr: c.ClientIP(), RequestID: requestID(c),
	}))
	var user account.User
	err := h.passwords.check(c, in.Username, email.CodeUnauthorized, func(ctx context.Context) (err error) {
		user, err = h.store.Authenticate(ctx, in.Username, in.Password)
		return err
	})
	h.logLogin(c, user, err)
	if err != nil {
		return 0, nil, err
	}
	return h.loggedIn(c, user)
}

// loggedIn answers with a new login token of a user.
func (h *authHandlers) loggedIn(c *gin.Context, user account.User) (int, any, error) {
	token, err := h.tokens.issue(c.Request.Context(), user)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, loginAnswer{Username: user.Username, Token: token}, nil
}

// logLogin logs a login or its failure. The log has no user name, because clients may have typed a
// password into that field.
func (h *authHandlers) logLogin(c *gin.Context, user account.User, err error) {
	level, message := slog.LevelInfo, "login.succeeded"
	if err != nil {
		level, message = slog.LevelWarn, "login.failed"
	}
	reason := email.FailureCode(err)
	if err != nil && reason == "" {
		reason = codeInternal
		if errors.Is(err, context.Canceled) {
			reason = "abandoned"
		}
	}
	h.log.Log(c.Request.Context(), level, message, "request_id", requestID(c), "remote_addr", c.ClientIP(), "reason", reason, "user_id", user.ID, "customer_id", user.CustomerID)
}

type passwordRequest struct {
	Password    string `json:"password"`
	NewPassword string `json:"new_password"`
}

// changePassword changes the password of a login's user, and answers with a new token. All others
// of the user are revoked.
func (h *authHandlers) changePassword(c *gin.Context) (int, any, error) {
	var in passwordRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	if in.Password == "" {
		return 0, nil, invalid("/password", "missing", "give the present password")
	}
	if err := account.CheckPassword(in.NewPassword); err != nil {
		return 0, nil, invalid("/new_password", "invalid", err.Error())
	}
	g := grantOf(c)
	var user account.User
	// The limit is on the user's id, not on the name: guesses with a stolen token do not lock the
	// user's logins.
	err := h.passwords.check(c, g.Actor, email.CodeForbidden, func(ctx context.Context) (err error) {
		user, err = h.store.ChangePassword(ctx, g.UserID, in.Password, in.NewPassword)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return h.loggedIn(c, user)
}

// revokeLogins revokes all login tokens of a login's user, including the one of the request.
func (h *authHandlers) revokeLogins(c *gin.Context) (int, any, error) {
	g := grantOf(c)
	user, err := h.store.RevokeUser(c.Request.Context(), g.Customer.ID, g.UserID)
	return http.StatusOK, newUserAnswer(user), err
}
