package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// SenderDomain is a domain that the customer sends from, and how its verification stands. Operators
// read and change those of any customer by Client.ActingFor.
type SenderDomain struct {
	ID string `json:"id"`
	// Name is in lower case, with A-labels.
	Name string `json:"name"`
	// Status is pending, verified, warning or failed. A domain sends while it is verified or has a
	// warning.
	Status      string    `json:"status"`
	StatusSince time.Time `json:"status_since"`
	// VerifiedAt is zero while the customer may not send from the domain. VerifiedBy is dns or
	// operator then, else empty.
	VerifiedAt time.Time `json:"verified_at"`
	VerifiedBy string    `json:"verified_by"`
	// BlockedBy says why the domain is not verified although its records are right: operator or
	// other_customer. Empty means that nothing blocks it.
	BlockedBy string `json:"blocked_by"`
	// CheckedAt is zero before the first check, NextCheckAt if there is no next one.
	CheckedAt   time.Time `json:"checked_at"`
	NextCheckAt time.Time `json:"next_check_at"`
	CreatedAt   time.Time `json:"created_at"`
	// Records are the DNS records to publish, Keys the DKIM keys, newest first. SenderDomains leaves
	// both out.
	Records []DNSRecord `json:"records"`
	Keys    []DKIMKey   `json:"keys"`
	// Authentication is what receivers will find of the domain's mail, for each relay. SenderDomains
	// leaves it out.
	Authentication []Authentication `json:"authentication"`
}

// Authentication says whether SPF, DKIM and DMARC will pass for mail through a relay.
type Authentication struct {
	// Relay is empty before the first check of the domain.
	Relay string                `json:"relay"`
	SPF   AuthenticationVerdict `json:"spf"`
	DKIM  AuthenticationVerdict `json:"dkim"`
	DMARC AuthenticationVerdict `json:"dmarc"`
}

// AuthenticationVerdict is what receivers will find.
type AuthenticationVerdict struct {
	// Result is pass, fail, none (there is no signature or no record) or unknown.
	Result string `json:"result"`
	// Domain is the one that is judged. Aligned says that DMARC counts it for the sender.
	Domain  string `json:"domain"`
	Aligned bool   `json:"aligned"`
	// Reason says why it does not pass or is not aligned, and what to do.
	Reason string `json:"reason"`
}

// DNSRecord is a record that a sender domain needs, and what the last check said of it.
type DNSRecord struct {
	// Record is what it is for: DKIM, ReturnPath or DMARC.
	Record string `json:"record"`
	// Required says that the domain is not verified without it.
	Required bool   `json:"required"`
	Type     string `json:"type"`
	// Name is relative to the domain. FQDN is the whole name, without a dot at its end.
	Name string `json:"name"`
	FQDN string `json:"fqdn"`
	// Value is on one line. ZoneFile is the record as a line of a zone file.
	Value    string `json:"value"`
	ZoneFile string `json:"zone_file"`
	TTL      string `json:"ttl"`
	// Priority is that of an MX record. No record is one, so it is nil.
	Priority *int `json:"priority"`
	// Status is not_started, pending, verified, failed or temporary_failure.
	Status string `json:"status"`
	// Found is what the DNS has. Problem is its stable name and Remedy what to do; both are empty if
	// the record is verified, or not checked yet.
	Found   []string `json:"found"`
	Problem string   `json:"problem"`
	Remedy  string   `json:"remedy"`
}

// DKIMKey is a DKIM key of a sender domain.
type DKIMKey struct {
	Selector string `json:"selector"`
	// Algorithm is rsa or ed25519.
	Algorithm string `json:"algorithm"`
	// State is pending, active, retiring or revoked.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// SafeToRemove says that the key's record may be removed from the DNS.
	SafeToRemove bool `json:"safe_to_remove"`
}

func (c *Client) senderDomain(ctx context.Context, method string, body any, path ...string) (SenderDomain, error) {
	var out SenderDomain
	_, err := c.do(ctx, call{method: method, path: append([]string{"domains"}, path...), body: body}, &out)
	return out, err
}

// CreateSenderDomain adds a sender domain. The answer has the records to publish. A domain that the
// customer has already is returned as it is.
func (c *Client) CreateSenderDomain(ctx context.Context, name string) (SenderDomain, error) {
	return c.senderDomain(ctx, http.MethodPost, map[string]string{"name": name})
}

// SenderDomains walks through the customer's sender domains, newest first, without their records and
// keys. An error is the last thing it yields.
func (c *Client) SenderDomains(ctx context.Context, opts ...ListOption) iter.Seq2[SenderDomain, error] {
	return list[SenderDomain](ctx, c, url.Values{}, opts, "domains")
}

// SenderDomain reads a sender domain.
func (c *Client) SenderDomain(ctx context.Context, id string) (SenderDomain, error) {
	return c.senderDomain(ctx, http.MethodGet, nil, id)
}

// DeleteSenderDomain deletes a sender domain and its keys. Accepted mail is still sent.
func (c *Client) DeleteSenderDomain(ctx context.Context, id string) (SenderDomain, error) {
	return c.senderDomain(ctx, http.MethodDelete, nil, id)
}

// VerifySenderDomain has the DNS looked at now. The answer is the domain before the look.
func (c *Client) VerifySenderDomain(ctx context.Context, id string) (SenderDomain, error) {
	return c.senderDomain(ctx, http.MethodPost, nil, id, "verify")
}

// RotateDKIM gives a sender domain new DKIM keys, which take over once their records are published.
func (c *Client) RotateDKIM(ctx context.Context, id string) (SenderDomain, error) {
	return c.senderDomain(ctx, http.MethodPost, nil, id, "rotate-dkim")
}
