package api

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
)

// Keys stores access keys.
type Keys interface {
	CreateAccessKey(ctx context.Context, wanted account.AccessKey) (account.AccessKey, string, error)
	// RotateAccessKey creates a key with the rights of another one, which expires after overlap.
	RotateAccessKey(ctx context.Context, customerID, id string, overlap time.Duration) (account.AccessKey, string, error)
	AccessKeys(ctx context.Context, customerID string, after email.Cursor, limit int) ([]account.AccessKey, *email.Cursor, error)
	AccessKey(ctx context.Context, customerID, id string) (account.AccessKey, error)
	DeleteAccessKey(ctx context.Context, customerID, id string) (account.AccessKey, error)
}

// accessKeyHandlers answers /v1.0/accesskeys.
type accessKeyHandlers struct {
	store Keys
	now   func() time.Time
}

// accessKeyJSON is VoIPBIN's Accesskey, then members of our own. Token is only in the answer to the
// request that created the key.
type accessKeyJSON struct {
	ID          string `json:"id"`
	CustomerID  string `json:"customer_id"`
	Name        string `json:"name"`
	Detail      string `json:"detail"`
	Token       string `json:"token,omitempty"`
	TokenPrefix string `json:"token_prefix"`
	TmExpire    string `json:"tm_expire"`
	TmCreate    string `json:"tm_create"`
	TmUpdate    string `json:"tm_update"`
	TmDelete    string `json:"tm_delete"`

	// Scopes are what the key may do; an empty list is everything but the scope admin.
	Scopes        []account.Scope `json:"scopes"`
	SenderDomains []string        `json:"sender_domains"`
	Networks      []netip.Prefix  `json:"networks"`
	LastUsedAt    *string         `json:"last_used_at"`
}

func accessKey(k account.AccessKey, token string) accessKeyJSON {
	return accessKeyJSON{
		ID: k.ID, CustomerID: k.CustomerID, Name: k.Name, Detail: k.Detail, Token: token, TokenPrefix: k.TokenPrefix,
		TmExpire: stamp(k.ExpiresAt), TmCreate: stamp(k.CreatedAt), TmUpdate: stamp(k.UpdatedAt), TmDelete: stamp(k.DeletedAt),
		Scopes: append([]account.Scope{}, k.Scopes...), SenderDomains: append([]string{}, k.SenderDomains...),
		Networks: append([]netip.Prefix{}, k.Networks...), LastUsedAt: moment(k.LastUsedAt),
	}
}

// accessKeyRequest creates a key. Expire is the key's life in seconds, 0 for no expiry.
type accessKeyRequest struct {
	Name          string          `json:"name"`
	Detail        string          `json:"detail"`
	Expire        int64           `json:"expire"`
	Scopes        []account.Scope `json:"scopes"`
	SenderDomains []string        `json:"sender_domains"`
	Networks      []string        `json:"networks"`
}

const (
	// maxRestrictions limits the sender domains of a key, and its networks.
	maxRestrictions = 100
	// maxExpire is the longest life of a key: ten years, in seconds.
	maxExpire = 10 * 365 * 24 * 3600
)

// wanted checks a request by a credential and returns the key that it describes.
func (r accessKeyRequest) wanted(by account.Grant, customerID string, now time.Time) (account.AccessKey, error) {
	k := account.AccessKey{CustomerID: customerID, Name: r.Name, Detail: r.Detail, Scopes: r.Scopes}
	if err := checkTexts(map[string]string{"/name": r.Name, "/detail": r.Detail}); err != nil {
		return k, err
	}
	if r.Expire < 0 || r.Expire > maxExpire {
		return k, invalid("/expire", "invalid", "give the key's life in seconds, at most ten years, or 0 for one that does not expire")
	}
	if r.Expire > 0 {
		k.ExpiresAt = now.Add(time.Duration(r.Expire) * time.Second)
	}
	if err := choices("/scopes", len(r.Scopes), len(account.Scopes())); err != nil {
		return k, err
	}
	for i, scope := range r.Scopes {
		switch {
		case !slices.Contains(account.Scopes(), scope):
			return k, invalid("/scopes/"+strconv.Itoa(i), "invalid", "give emails:send, emails:read, emails:manage, webhooks, mailboxes or admin")
		case scope == account.ScopeAdmin && !by.Admin():
			return k, invalid("/scopes/"+strconv.Itoa(i), "forbidden", "only a credential with the scope admin may grant it")
		}
	}
	if len(r.SenderDomains) > maxRestrictions || len(r.Networks) > maxRestrictions {
		return k, invalid("/networks", "too_many", "give at most 100 domains and 100 networks")
	}
	for i, name := range r.SenderDomains {
		domain, err := intake.Domain(name)
		if err != nil {
			return k, invalid("/sender_domains/"+strconv.Itoa(i), "invalid", "give a domain, as example.com")
		}
		k.SenderDomains = append(k.SenderDomains, domain)
	}
	for i, text := range r.Networks {
		p, err := netip.ParsePrefix(text)
		if ip, iperr := netip.ParseAddr(text); iperr == nil {
			p, err = netip.PrefixFrom(ip, ip.BitLen()), nil
		}
		if err != nil || p != p.Masked() || p.Addr().Zone() != "" {
			return k, invalid("/networks/"+strconv.Itoa(i), "invalid", "give an address, or a network such as 192.0.2.0/24 with all host bits zero")
		}
		k.Networks = append(k.Networks, p)
	}
	return k, nil
}

func (h *accessKeyHandlers) post(c *gin.Context) (int, any, error) {
	return h.make(c, customerOf(c).ID)
}

// make creates a key of a customer.
func (h *accessKeyHandlers) make(c *gin.Context, customerID string) (int, any, error) {
	var in accessKeyRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	wanted, err := in.wanted(grantOf(c), customerID, h.now())
	if err != nil {
		return 0, nil, err
	}
	if err := covered(c, wanted); err != nil {
		return 0, nil, err
	}
	key, token, err := h.store.CreateAccessKey(c.Request.Context(), wanted)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, token), nil
}

// covered refuses a key with more rights than the credential of the request. A client that creates
// or rotates a key receives its rights, and one that deletes it takes them away.
func covered(c *gin.Context, k account.AccessKey) error {
	member, why := grantOf(c).Exceeded(k)
	if member == "" {
		return nil
	}
	f := email.Fail(email.CodeForbidden, "the access key would have more rights than this credential: %s", why)
	f.Fields = []email.FieldError{{Pointer: "/" + member, Code: "forbidden", Detail: why}}
	return f
}

// covered reads the key that a parameter of the path names, and refuses it as the function covered
// does.
func (h *accessKeyHandlers) covered(c *gin.Context, customerID, param string) (account.AccessKey, error) {
	k, err := h.named(c, customerID, param)
	if err != nil {
		return account.AccessKey{}, err
	}
	return k, covered(c, k)
}

// named reads the key of a customer that a parameter of the path names.
func (h *accessKeyHandlers) named(c *gin.Context, customerID, param string) (account.AccessKey, error) {
	id, err := pathID(c, param, "access key")
	if err != nil {
		return account.AccessKey{}, err
	}
	return h.store.AccessKey(c.Request.Context(), customerID, id)
}

// rotateRequest rotates a key. Overlap is how many seconds the old key remains valid; defaults to a
// day.
type rotateRequest struct {
	Overlap *int64 `json:"overlap"`
}

const (
	defaultOverlap = 24 * 3600
	maxOverlap     = 30 * 24 * 3600
)

func (h *accessKeyHandlers) rotate(c *gin.Context) (int, any, error) {
	in := rotateRequest{}
	if c.Request.ContentLength != 0 {
		if err := decode(c, &in); err != nil {
			return 0, nil, err
		}
	} else if err := reserveChange(c); err != nil {
		return 0, nil, err
	}
	overlap := int64(defaultOverlap)
	if in.Overlap != nil {
		overlap = *in.Overlap
	}
	if overlap < 0 || overlap > maxOverlap {
		return 0, nil, invalid("/overlap", "invalid", "give how many seconds the old key remains valid, at most 30 days; 0 ends it at once")
	}
	old, err := h.covered(c, customerOf(c).ID, "id")
	if err != nil {
		return 0, nil, err
	}
	key, token, err := h.store.RotateAccessKey(c.Request.Context(), customerOf(c).ID, old.ID, time.Duration(overlap)*time.Second)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, token), nil
}

func (h *accessKeyHandlers) list(c *gin.Context) (int, any, error) {
	return h.listOf(c, customerOf(c).ID)
}

// listOf lists the keys of a customer.
func (h *accessKeyHandlers) listOf(c *gin.Context, customerID string) (int, any, error) {
	return listPage(c, customerID, h.store.AccessKeys, func(k account.AccessKey) accessKeyJSON { return accessKey(k, "") })
}

func (h *accessKeyHandlers) get(c *gin.Context) (int, any, error) {
	key, err := h.named(c, customerOf(c).ID, "id")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, ""), nil
}

func (h *accessKeyHandlers) delete(c *gin.Context) (int, any, error) {
	return h.deleteOf(c, customerOf(c).ID, "id")
}

// deleteOf deletes the key of a customer that a parameter of the path names.
func (h *accessKeyHandlers) deleteOf(c *gin.Context, customerID, param string) (int, any, error) {
	key, err := h.covered(c, customerID, param)
	if err != nil {
		return 0, nil, err
	}
	if key, err = h.store.DeleteAccessKey(c.Request.Context(), key.CustomerID, key.ID); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, ""), nil
}

// customerKeyHandlers answers /v1.0/customers/:id/accesskeys, for the operator.
type customerKeyHandlers struct {
	customer pathCustomer
	keys     *accessKeyHandlers
}

func (h *customerKeyHandlers) list(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	return h.keys.listOf(c, k.ID)
}

func (h *customerKeyHandlers) get(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	key, err := h.keys.named(c, k.ID, "key")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, accessKey(key, ""), nil
}

func (h *customerKeyHandlers) delete(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	return h.keys.deleteOf(c, k.ID, "key")
}

func (h *customerKeyHandlers) post(c *gin.Context) (int, any, error) {
	k, err := h.customer.read(c)
	if err != nil {
		return 0, nil, err
	}
	return h.keys.make(c, k.ID)
}
