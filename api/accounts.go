package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
)

// Keys keeps access keys.
type Keys interface {
	CreateAccessKey(ctx context.Context, wanted account.AccessKey) (account.AccessKey, string, error)
	AccessKeys(ctx context.Context, customerID string, after email.Cursor, limit int) ([]account.AccessKey, *email.Cursor, error)
	AccessKey(ctx context.Context, customerID, id string) (account.AccessKey, error)
	DeleteAccessKey(ctx context.Context, customerID, id string) (account.AccessKey, error)
}

// accessKeyJSON is the seed API's Accesskey. Token is shown once, when made.
type accessKeyJSON struct {
	ID          string `json:"id"`
	CustomerID  string `json:"customer_id"`
	Name        string `json:"name"`
	Detail      string `json:"detail"`
	Token       string `json:"token,omitempty"`
	TokenPrefix string `json:"token_prefix"`
	// Scopes are what it may do beyond its customer's own affairs.
	Scopes   []account.Scope `json:"scopes"`
	TmExpire string          `json:"tm_expire"`
	TmCreate string          `json:"tm_create"`
	TmUpdate string          `json:"tm_update"`
	TmDelete string          `json:"tm_delete"`
}

func accessKey(k account.AccessKey, token string) accessKeyJSON {
	return accessKeyJSON{
		ID: k.ID, CustomerID: k.CustomerID, Name: k.Name, Detail: k.Detail, Token: token, TokenPrefix: k.TokenPrefix,
		Scopes:   append([]account.Scope{}, k.Scopes...),
		TmExpire: stamp(k.ExpiresAt), TmCreate: stamp(k.CreatedAt), TmUpdate: stamp(k.UpdatedAt), TmDelete: stamp(k.DeletedAt),
	}
}

// accessKeyRequest makes a key. Expire is seconds from now, 0 for never.
type accessKeyRequest struct {
	Name   string `json:"name"`
	Detail string `json:"detail"`
	Expire int64  `json:"expire"`
}

// Limits of the small texts that customers give their things.
const (
	maxNameBytes   = 255
	maxDetailBytes = 2048
	// maxExpire is ten years, in seconds.
	maxExpire = 10 * 365 * 24 * 3600
)

func (s *Server) postAccessKey(c *gin.Context) (int, any, error) {
	var in accessKeyRequest
	err := decode(c, &in)
	if err == nil {
		err = checkTexts(map[string]string{"/name": in.Name, "/detail": in.Detail})
	}
	if err == nil && (in.Expire < 0 || in.Expire > maxExpire) {
		err = invalid("/expire", "invalid", "give the key's life in seconds, at most ten years, or 0 for one that does not expire")
	}
	if err != nil {
		return 0, nil, err
	}
	var expires time.Time
	if in.Expire > 0 {
		expires = time.Now().Add(time.Duration(in.Expire) * time.Second)
	}
	key, token, err := s.deps.Keys.CreateAccessKey(c.Request.Context(), account.AccessKey{CustomerID: customerOf(c).ID, Name: in.Name, Detail: in.Detail, ExpiresAt: expires})
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, token), nil
}

func (s *Server) listAccessKeys(c *gin.Context) (int, any, error) {
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	keys, next, err := s.deps.Keys.AccessKeys(c.Request.Context(), customerOf(c).ID, after, size)
	if err != nil {
		return 0, nil, err
	}
	out := listAnswer[accessKeyJSON]{Result: make([]accessKeyJSON, len(keys)), NextPageToken: pageToken(next)}
	for i, k := range keys {
		out.Result[i] = accessKey(k, "")
	}
	return http.StatusOK, out, nil
}

func (s *Server) getAccessKey(c *gin.Context) (int, any, error) {
	return s.oneAccessKey(c, s.deps.Keys.AccessKey)
}

func (s *Server) deleteAccessKey(c *gin.Context) (int, any, error) {
	return s.oneAccessKey(c, s.deps.Keys.DeleteAccessKey)
}

func (s *Server) oneAccessKey(c *gin.Context, do func(ctx context.Context, customerID, id string) (account.AccessKey, error)) (int, any, error) {
	id, err := pathID(c, "id", "access key")
	if err != nil {
		return 0, nil, err
	}
	key, err := do(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, ""), nil
}

// customerJSON is the seed API's Customer. WebhookSecret is shown once, in the
// answer that made the endpoint.
type customerJSON struct {
	ID            string          `json:"id"`
	Name          string          `json:"name"`
	Detail        string          `json:"detail"`
	Email         string          `json:"email"`
	WebhookMethod string          `json:"webhook_method"`
	WebhookURI    string          `json:"webhook_uri"`
	WebhookSecret string          `json:"webhook_secret,omitempty"`
	DefaultSource *account.Source `json:"default_source"`
	Status        account.Status  `json:"status"`
	TmCreate      string          `json:"tm_create"`
	TmUpdate      string          `json:"tm_update"`
	TmDelete      string          `json:"tm_delete"`
}

func customerResource(k account.Customer, secret string) customerJSON {
	return customerJSON{
		ID: k.ID, Name: k.Name, Detail: k.Detail, Email: k.Email, WebhookMethod: k.WebhookMethod, WebhookURI: k.WebhookURI,
		WebhookSecret: secret, DefaultSource: k.DefaultSource, Status: k.Status,
		TmCreate: stamp(k.CreatedAt), TmUpdate: stamp(k.UpdatedAt), TmDelete: stamp(k.DeletedAt),
	}
}

func (s *Server) getCustomer(c *gin.Context) (int, any, error) {
	return http.StatusOK, customerResource(customerOf(c), ""), nil
}

// listCustomers is a list of one: a credential sees its own customer only.
func (s *Server) listCustomers(c *gin.Context) (int, any, error) {
	return http.StatusOK, listAnswer[customerJSON]{Result: []customerJSON{customerResource(customerOf(c), "")}}, nil
}

// customerRequest changes what it names and leaves the rest.
type customerRequest struct {
	Name          *string         `json:"name"`
	Detail        *string         `json:"detail"`
	Email         *string         `json:"email"`
	WebhookMethod *string         `json:"webhook_method"`
	WebhookURI    *string         `json:"webhook_uri"`
	DefaultSource *account.Source `json:"default_source"`
}

func (s *Server) putCustomer(c *gin.Context) (int, any, error) {
	var in customerRequest
	err := decode(c, &in)
	cust := customerOf(c)
	if err == nil {
		err = s.applyCustomer(&cust, in)
	}
	if err != nil {
		return 0, nil, err
	}
	updated, secret, err := s.deps.Accounts.UpdateCustomer(c.Request.Context(), cust)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, customerResource(updated, secret), nil
}

func (s *Server) applyCustomer(cust *account.Customer, in customerRequest) error {
	for _, set := range []struct{ from, to *string }{
		{in.Name, &cust.Name}, {in.Detail, &cust.Detail}, {in.Email, &cust.Email},
		{in.WebhookMethod, &cust.WebhookMethod}, {in.WebhookURI, &cust.WebhookURI},
	} {
		if set.from != nil {
			*set.to = *set.from
		}
	}
	if err := checkTexts(map[string]string{"/name": cust.Name, "/detail": cust.Detail, "/email": cust.Email, "/webhook_uri": cust.WebhookURI}); err != nil {
		return err
	}
	if cust.Name == "" {
		return invalid("/name", "missing", "a customer needs a name")
	}
	if !slices.Contains([]string{"POST", "GET", "PUT", "DELETE"}, cust.WebhookMethod) {
		return invalid("/webhook_method", "invalid", "give POST, GET, PUT or DELETE")
	}
	if in.WebhookURI != nil && cust.WebhookURI != "" {
		if err := s.deps.CheckURL(cust.WebhookURI); err != nil {
			return invalid("/webhook_uri", "invalid", err.Error())
		}
	}
	if in.DefaultSource == nil {
		return nil
	}
	if *in.DefaultSource == (account.Source{}) {
		cust.DefaultSource = nil
		return nil
	}
	a, err := intake.Address(in.DefaultSource.Email, in.DefaultSource.Name)
	if err != nil {
		return invalid("/default_source", "invalid", err.Error())
	}
	cust.DefaultSource = &account.Source{Email: a.Email, Name: a.Name}
	return nil
}

// checkTexts bounds what is kept as it is given.
func checkTexts(texts map[string]string) error {
	for _, pointer := range slices.Sorted(maps.Keys(texts)) {
		limit := maxNameBytes
		if pointer == "/detail" || pointer == "/webhook_uri" {
			limit = maxDetailBytes
		}
		if len(texts[pointer]) > limit {
			return invalid(pointer, "too_long", "shorten it")
		}
		for _, r := range texts[pointer] {
			if r == 0 || r == '\r' || r == '\n' {
				return invalid(pointer, "control_character", "remove line breaks and NUL")
			}
		}
	}
	return nil
}
