package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/plaintext"
)

// MaxVoIPBINBytes bounds a body of the format voipbin, which promises the content.
const MaxVoIPBINBytes = 256_000

// VoIPBIN's events.
const (
	voipbinCreated = "email_created"
	voipbinUpdated = "email_updated"
	voipbinDeleted = "email_deleted"
)

type voipbinAddress struct {
	Type       string `json:"type"`
	Target     string `json:"target"`
	TargetName string `json:"target_name"`
	Name       string `json:"name"`
	Detail     string `json:"detail"`
}

type voipbinAttachment struct {
	ReferenceType email.ReferenceType `json:"reference_type"`
	ReferenceID   string              `json:"reference_id"`
}

type voipbinEmail struct {
	ID           string              `json:"id"`
	CustomerID   string              `json:"customer_id"`
	Source       voipbinAddress      `json:"source"`
	Destinations []voipbinAddress    `json:"destinations"`
	Status       string              `json:"status"`
	Subject      string              `json:"subject"`
	Content      string              `json:"content"`
	Attachments  []voipbinAttachment `json:"attachments"`
	TmCreate     string              `json:"tm_create"`
	TmUpdate     string              `json:"tm_update"`
	TmDelete     string              `json:"tm_delete"`
}

// Bodies makes the body of an event's deliveries in a format, and the type it has
// there. An empty type says that the format has none for it.
func Bodies(f endpoint.Format, ev email.Event, e email.Email) (kind string, body []byte, err error) {
	if f == endpoint.FormatStandard {
		body, err := Body(ev, e)
		return string(ev.Type), body, err
	}
	switch ev.Type {
	case email.EventQueued, email.EventScheduled:
		if kind = voipbinCreated; ev.Sequence > 1 {
			kind = voipbinUpdated // rescheduled
		}
	case email.EventSending, email.EventDeferred, email.EventCompleted:
		kind = voipbinUpdated
	case email.EventDeleted:
		kind = voipbinDeleted
	default:
		return "", nil, nil
	}
	body, err = voipbinBody(kind, e)
	return kind, body, err
}

// voipbinBody holds the Email as VoIPBIN has it. Content that does not fit loses
// its end.
func voipbinBody(kind string, e email.Email) ([]byte, error) {
	v := voipbinEmail{
		ID: e.ID, CustomerID: e.CustomerID, Source: voipbinAddressOf(e.From), Destinations: []voipbinAddress{},
		Status: email.VoIPBINStatus(e), Subject: e.Subject, Content: plaintext.Cut(e.Text, MaxVoIPBINBytes), Attachments: []voipbinAttachment{},
		TmCreate: voipbinTime(e.CreatedAt), TmUpdate: voipbinTime(e.StatusAt), TmDelete: voipbinTime(e.DeletedAt),
	}
	for _, a := range e.To {
		v.Destinations = append(v.Destinations, voipbinAddressOf(a))
	}
	for _, a := range e.Attachments {
		v.Attachments = append(v.Attachments, voipbinAttachment{a.ReferenceType, a.ReferenceID})
	}
	for {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(map[string]any{"type": kind, "data": v}); err != nil {
			return nil, fmt.Errorf("encode the webhook body of %s: %w", kind, err)
		}
		body := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
		excess := len(body) - MaxVoIPBINBytes
		switch {
		case excess <= 0:
			return body, nil
		case v.Content == "":
			return nil, fmt.Errorf("webhook body of %s: %d bytes without content, limit %d", kind, len(body), MaxVoIPBINBytes)
		}
		v.Content = plaintext.Cut(v.Content, len(v.Content)-excess)
	}
}

func voipbinAddressOf(a email.Address) voipbinAddress {
	return voipbinAddress{Type: "email", Target: a.Email, TargetName: a.Name, Name: a.Label, Detail: a.Detail}
}

func voipbinTime(t time.Time) string {
	if t.IsZero() {
		return email.TimestampNever
	}
	return t.UTC().Format(email.TimestampLayout)
}
