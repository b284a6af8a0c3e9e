package email

import (
	"time"

	"github.com/google/uuid"
)

// PauseScope is which e-mails a pause covers.
type PauseScope string

// The scopes. All but the installation have a key: a customer's id, a stream, a
// relay's name.
const (
	PauseInstallation PauseScope = "installation"
	PauseCustomer     PauseScope = "customer"
	PauseStream       PauseScope = "stream"
	PauseRelay        PauseScope = "relay"
)

// Pause stops the mail of a scope.
type Pause struct {
	Scope     PauseScope
	Key       string
	Reason    string
	CreatedAt time.Time
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
	case p.Scope == PauseStream && p.Key != string(StreamTransactional) && p.Key != string(StreamBroadcast):
		return wrong("/key", "give the stream: transactional or broadcast")
	case p.Scope == PauseRelay && p.Key == "":
		return wrong("/key", "give the relay's name, as in POSTRIDER_SMTP_URLS")
	case p.Scope == PauseCustomer || p.Scope == PauseStream || p.Scope == PauseRelay:
		return nil
	}
	return wrong("/scope", "give installation, customer, stream or relay")
}

func isUUID(s string) bool {
	_, err := uuid.Parse(s)
	return err == nil && len(s) == 36
}
