package email

import (
	"strings"
	"time"

	"github.com/google/uuid"
)

// PauseScope is which e-mails a pause covers.
type PauseScope string

// The scopes. All but the installation have a key: a customer's id, a stream, a
// relay's name, a DomainStreamKey.
const (
	PauseInstallation PauseScope = "installation"
	PauseCustomer     PauseScope = "customer"
	PauseStream       PauseScope = "stream"
	PauseRelay        PauseScope = "relay"
	// PauseDomainStream covers the mail of one stream that a customer sends from one domain.
	PauseDomainStream PauseScope = "domain_stream"
)

// DomainStreamKey is the key of a PauseDomainStream: the customer's id, the sender's domain (lower
// case, A-labels) and the stream, with slashes between.
func DomainStreamKey(customerID, domain string, stream Stream) string {
	return customerID + "/" + domain + "/" + string(stream)
}

// Pause stops the mail of a scope.
type Pause struct {
	Scope  PauseScope
	Key    string
	Reason string
	// SetBy is the actor, as in the audit log: "reputation" is Postrider itself. Empty: an earlier
	// version set the pause.
	SetBy     string
	CreatedAt time.Time
}

// CustomerID is the customer whose mail alone the pause covers; empty if it covers others' mail too.
func (p Pause) CustomerID() string {
	switch p.Scope {
	case PauseCustomer:
		return p.Key
	case PauseDomainStream:
		id, _, _ := strings.Cut(p.Key, "/")
		return id
	}
	return ""
}

// Check returns a Failure with pointers if the pause is not valid.
func (p Pause) Check() error {
	f := Fail(CodeInvalidRequest, "the pause is not valid; errors says where and why")
	wrong := func(pointer, detail string) error {
		f.Fields = []FieldError{{Pointer: pointer, Code: "invalid", Detail: detail}}
		return f
	}
	switch {
	case p.Scope == PauseInstallation && p.Key != "":
		return wrong("/key", "leave it out: the scope installation covers all mail")
	case p.Scope == PauseInstallation:
		return nil
	case p.Scope == PauseCustomer && !isUUID(p.Key):
		return wrong("/key", "give the customer's id")
	case p.Scope == PauseStream && !isStream(p.Key):
		return wrong("/key", "give the stream: transactional or broadcast")
	case p.Scope == PauseRelay && p.Key == "":
		return wrong("/key", "give the relay's name, as in POSTRIDER_SMTP_URLS")
	case p.Scope == PauseDomainStream && !isDomainStreamKey(p.Key):
		return wrong("/key", "give the customer's id, the sender's domain in lower case, and the stream, as 01a20894-d574-79b4-a163-2c334f1ed74c/example.com/broadcast")
	case p.Scope == PauseCustomer || p.Scope == PauseStream || p.Scope == PauseRelay || p.Scope == PauseDomainStream:
		return nil
	}
	return wrong("/scope", "give installation, customer, stream, relay or domain_stream")
}

func isStream(s string) bool {
	return s == string(StreamTransactional) || s == string(StreamBroadcast)
}

func isDomainStreamKey(key string) bool {
	parts := strings.Split(key, "/")
	return len(parts) == 3 && isUUID(parts[0]) && parts[0] == strings.ToLower(parts[0]) &&
		parts[1] != "" && parts[1] == strings.ToLower(parts[1]) && !strings.ContainsAny(parts[1], "@ ") && isStream(parts[2])
}

func isUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}
