package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/httpserver"
)

// logins lets passwords be checked: few wrong ones, and few at once.
type logins struct {
	pairs, networks *guesses
	hashing         *hashing
	now             func() time.Time
}

func newLogins(now func() time.Time, patience time.Duration, hashesAtOnce int) *logins {
	return &logins{pairs: newGuesses(guessEvery, guessBurst), networks: newGuesses(networkGuessEvery, networkGuessBurst), hashing: newHashing(cmp.Or(patience, hashPatience), hashesAtOnce, now), now: now}
}

// check runs what checks the password of a name. Guesses are counted before anything is
// hashed, by name and network together and by network. Wrong guesses from elsewhere lock
// nobody out, nor do those of other names from the same network anybody who has logged in
// from there before. An error with the code wrong is a wrong password. The check goes on
// if the client goes away, or its guess would not count.
func (l *logins) check(c *gin.Context, name string, wrong email.Code, do func(context.Context) error) error {
	network := httpserver.ClientNetwork(c.ClientIP())
	pair, all := guessKey(name, network), guessKey("", network)
	wait, ok := l.pairs.begin(pair, l.now())
	if !ok {
		return tooManyGuesses(c, wait)
	}
	failed := false
	defer func() { l.pairs.end(pair, l.now(), failed) }()
	if !l.hashing.knows(name, network) {
		if wait, ok = l.networks.begin(all, l.now()); !ok {
			return tooManyGuesses(c, wait)
		}
		defer func() { l.networks.end(all, l.now(), failed) }()
	}
	if err := l.hashing.enter(c.Request.Context(), name, network); err != nil {
		return err
	}
	defer l.hashing.leave()
	err := do(context.WithoutCancel(c.Request.Context()))
	failed = email.FailureCode(err) == wrong
	switch {
	case failed:
		l.hashing.failed(name, network)
	case err == nil:
		l.hashing.succeeded(name, network)
	}
	return err
}

// hash runs what makes a hash and checks no password.
func (l *logins) hash(c *gin.Context, do func(context.Context) error) error {
	if err := l.hashing.enter(c.Request.Context(), grantOf(c).Actor, httpserver.ClientNetwork(c.ClientIP())); err != nil {
		return err
	}
	defer l.hashing.leave()
	return do(c.Request.Context())
}

func tooManyGuesses(c *gin.Context, wait time.Duration) error {
	seconds := int(wait / time.Second)
	c.Header("Retry-After", strconv.Itoa(seconds))
	return email.Fail(email.CodeTooMany, "too many logins from here have failed, or are being checked; wait %d s", seconds)
}

// Logins checks passwords, and ends logins.
type Logins interface {
	// Authenticate notes the login, or its failure, in the audit. With CodeUnauthorized, the
	// user is who has the name, and zero if nobody has.
	Authenticate(ctx context.Context, username, password string) (account.User, error)
	// ChangePassword and RevokeUser end all login tokens of the user. A wrong present
	// password is CodeForbidden.
	ChangePassword(ctx context.Context, userID, present, password string) (account.User, error)
	RevokeUser(ctx context.Context, customerID, userID string) (account.User, error)
}

// authHandlers answer /v1.0/auth.
type authHandlers struct {
	store     Logins
	passwords *logins
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
	if err := decode(c, &in); err != nil {
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

// loggedIn answers with a token of a user.
func (h *authHandlers) loggedIn(c *gin.Context, user account.User) (int, any, error) {
	token, err := h.tokens.issue(c.Request.Context(), user)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, loginAnswer{Username: user.Username, Token: token}, nil
}

// logLogin writes a line for each try to log in. The name that was given is not in it: it
// may be a password that was typed into the wrong field.
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

// changePassword gives the user of a login another password, and a token in place of all
// that end with it.
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
	// The user's id stands for the name: guesses of a stolen token lock no login out.
	err := h.passwords.check(c, g.Actor, email.CodeForbidden, func(ctx context.Context) (err error) {
		user, err = h.store.ChangePassword(ctx, g.UserID, in.Password, in.NewPassword)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return h.loggedIn(c, user)
}

// revokeLogins ends all tokens of the user of a login, this one too.
func (h *authHandlers) revokeLogins(c *gin.Context) (int, any, error) {
	g := grantOf(c)
	user, err := h.store.RevokeUser(c.Request.Context(), g.Customer.ID, g.UserID)
	return http.StatusOK, newUserAnswer(user), err
}
