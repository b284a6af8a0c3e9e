package api

import (
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// stamp formats the value of a tm_ member, as VoIPBIN's API does.
func stamp(t time.Time) string {
	if t.IsZero() {
		return email.TimestampNever
	}
	return t.UTC().Format(email.TimestampLayout)
}

// moment formats any other time: RFC 3339 in UTC with milliseconds, null for the zero time.
func moment(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format("2006-01-02T15:04:05.000Z")
	return &s
}

// addressJSON is VoIPBIN's Address, with all members even if they are empty.
type addressJSON struct {
	Type       string `json:"type"`
	Target     string `json:"target"`
	TargetName string `json:"target_name"`
	Name       string `json:"name"`
	Detail     string `json:"detail"`
}

// attachmentJSON is VoIPBIN's Attachment with members of our own.
type attachmentJSON struct {
	ReferenceType email.ReferenceType `json:"reference_type"`
	ReferenceID   string              `json:"reference_id"`
	URL           string              `json:"url,omitempty"`
	Filename      string              `json:"filename"`
	Type          string              `json:"type"`
	Size          int64               `json:"size"`
	SHA256        string              `json:"sha256"`
	ContentID     string              `json:"content_id"`
	Optional      bool                `json:"optional,omitempty"`
	Problem       string              `json:"problem,omitempty"`
}

type acceptedJSON struct {
	Host  string            `json:"host"`
	Code  int               `json:"code"`
	Text  string            `json:"text"`
	At    *string           `json:"at"`
	Means email.AcceptMeans `json:"means"`
}

type recipientJSON struct {
	ID            string                `json:"id"`
	Kind          email.RecipientKind   `json:"kind"`
	Address       string                `json:"address"`
	Status        email.RecipientStatus `json:"status"`
	Reason        email.Detail          `json:"reason,omitempty"`
	SMTPCode      int                   `json:"smtp_code,omitempty"`
	EnhancedCode  string                `json:"enhanced_code,omitempty"`
	Text          string                `json:"text,omitempty"`
	Attempts      int                   `json:"attempts"`
	NextAttemptAt *string               `json:"next_attempt_at,omitempty"`
	AcceptedBy    *acceptedJSON         `json:"accepted_by,omitempty"`
	SuppressedBy  *string               `json:"suppressed_by"`
}

type topicJSON struct {
	Topic string `json:"topic"`
}

// relayFaultJSON says why no relay accepts an e-mail at present.
type relayFaultJSON struct {
	Relay         string  `json:"relay"`
	Since         *string `json:"since"`
	SMTPCode      int     `json:"smtp_code,omitempty"`
	EnhancedCode  string  `json:"enhanced_code,omitempty"`
	Text          string  `json:"text"`
	NextAttemptAt *string `json:"next_attempt_at"`
}

// emailJSON is VoIPBIN's Email, then members of our own.
type emailJSON struct {
	ID           string        `json:"id"`
	CustomerID   string        `json:"customer_id"`
	Source       addressJSON   `json:"source"`
	Destinations []addressJSON `json:"destinations"`
	Status       email.Status  `json:"status"`
	Subject      string        `json:"subject"`
	Content      string        `json:"content"`
	// ContentTruncated: Content is cut to listedBytes. GET of the single e-mail has all of it.
	ContentTruncated bool             `json:"content_truncated,omitempty"`
	Attachments      []attachmentJSON `json:"attachments"`
	TmCreate         string           `json:"tm_create"`
	TmUpdate         string           `json:"tm_update"`
	TmDelete         string           `json:"tm_delete"`

	Cc            []addressJSON     `json:"cc"`
	Bcc           []addressJSON     `json:"bcc"`
	ReplyTo       []addressJSON     `json:"reply_to"`
	StatusDetail  email.Detail      `json:"status_detail"`
	HeldBy        []email.Holder    `json:"held_by,omitempty"`
	NextAttemptAt *string           `json:"next_attempt_at"`
	ReturnPath    string            `json:"return_path,omitempty"`
	RelayFault    *relayFaultJSON   `json:"relay_fault,omitempty"`
	Counts        email.Counts      `json:"counts"`
	Recipients    []recipientJSON   `json:"recipients"`
	Tags          []string          `json:"tags"`
	Metadata      map[string]string `json:"metadata"`
	SendAt        *string           `json:"send_at"`
	ExpiresAt     *string           `json:"expires_at"`
	Stream        email.Stream      `json:"stream"`

	IgnoreSuppressions bool `json:"ignore_suppressions"`

	// Unsubscribe is true or a topicJSON; nil if the recipient has no link to unsubscribe by.
	Unsubscribe any    `json:"unsubscribe,omitempty"`
	CallbackURL string `json:"callback_url,omitempty"`
	BatchID     string `json:"batch_id,omitempty"`
	WorkflowID  string `json:"workflow_id"`
	WorkflowURL string `json:"workflow_url,omitempty"`
}

// singleJSON is the answer for one e-mail. It has members that lists leave out.
type singleJSON struct {
	emailJSON
	ContentHTML     string        `json:"content_html"`
	ContentCalendar *calendarJSON `json:"content_calendar,omitempty"`
}

type calendarJSON struct {
	Method string `json:"method"`
	ICS    string `json:"ics"`
}

// single returns the answer for one e-mail to a credential that may read it.
func (h *emailHandlers) single(c *gin.Context, e email.Email) singleJSON {
	out := singleJSON{emailJSON: h.item(c, e), ContentHTML: e.HTML}
	if e.Calendar.ICS != "" {
		out.ContentCalendar = &calendarJSON{Method: e.Calendar.Method, ICS: e.Calendar.ICS}
	}
	return out
}

// answered returns the answer for one e-mail. If the credential may not read e-mails, the answer
// has the status and no content, addresses or recipients.
func (h *emailHandlers) answered(c *gin.Context, e email.Email) singleJSON {
	out := h.single(c, e)
	if grantOf(c).May(account.ScopeRead) {
		return out
	}
	return singleJSON{emailJSON: emailJSON{
		ID: out.ID, CustomerID: out.CustomerID, Source: address(email.Address{}), Destinations: []addressJSON{}, Status: out.Status,
		Attachments: []attachmentJSON{}, TmCreate: out.TmCreate, TmUpdate: out.TmUpdate, TmDelete: out.TmDelete,
		Cc: []addressJSON{}, Bcc: []addressJSON{}, ReplyTo: []addressJSON{}, StatusDetail: out.StatusDetail, NextAttemptAt: out.NextAttemptAt,
		Counts: out.Counts, Recipients: []recipientJSON{}, Tags: []string{}, Metadata: map[string]string{}, SendAt: out.SendAt,
		ExpiresAt: out.ExpiresAt, Stream: out.Stream, BatchID: out.BatchID, WorkflowID: out.WorkflowID, WorkflowURL: out.WorkflowURL,
	}}
}

// item returns the entry of a list for an e-mail.
func (h *emailHandlers) item(c *gin.Context, e email.Email) emailJSON {
	out := emailJSON{
		ID: e.ID, CustomerID: e.CustomerID, Source: address(e.From), Destinations: addresses(e.To),
		Status: e.Status, Subject: e.Subject, Content: e.Text, ContentTruncated: e.TextCut, Attachments: []attachmentJSON{},
		TmCreate: stamp(e.CreatedAt), TmUpdate: stamp(e.StatusAt), TmDelete: stamp(e.DeletedAt),
		Cc: addresses(e.Cc), Bcc: addresses(e.Bcc), ReplyTo: addresses(e.ReplyTo),
		StatusDetail: e.Detail, HeldBy: e.HeldBy, NextAttemptAt: moment(e.NextAttemptAt), ReturnPath: e.ReturnPath, Counts: email.Count(e.Recipients),
		Recipients: []recipientJSON{}, Tags: e.Tags, Metadata: e.Metadata,
		SendAt: moment(e.SendAt), ExpiresAt: moment(e.ExpiresAt), Stream: e.Stream, CallbackURL: e.CallbackURL, BatchID: e.BatchID, WorkflowID: e.WorkflowID,
		IgnoreSuppressions: e.IgnoreSuppressions,
	}
	if f := e.RelayFault; f != nil {
		out.RelayFault = &relayFaultJSON{Relay: f.Relay, Since: moment(f.Since), SMTPCode: f.Reply.Code, EnhancedCode: f.Reply.Enhanced, Text: f.Reply.Text, NextAttemptAt: moment(f.NextAttemptAt)}
	}
	if voipbin(c) {
		out.Status = email.Status(email.VoIPBINStatus(e))
	}
	switch {
	case e.Topic != "":
		out.Unsubscribe = topicJSON{e.Topic}
	case e.Message.Unsubscribe:
		out.Unsubscribe = true
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	out.WorkflowURL = h.links.workflow(e.WorkflowID)
	for _, a := range e.Attachments {
		if a.ReferenceType == email.ReferenceFile && a.ReferenceID == a.BlobID {
			a.ReferenceType, a.ReferenceID = "", "" // the request contained it: /v1.0/files has no such file
		}
		out.Attachments = append(out.Attachments, attachmentJSON{
			ReferenceType: a.ReferenceType, ReferenceID: a.ReferenceID, URL: a.URL, Filename: a.Filename, Type: a.Type, Size: a.Size,
			SHA256: a.SHA256, ContentID: a.ContentID, Optional: a.Optional, Problem: a.Problem,
		})
	}
	for _, r := range e.Recipients {
		j := recipientJSON{
			ID: r.ID, Kind: r.Kind, Address: r.Email, Status: r.Status, Reason: r.Reason, SMTPCode: r.Code,
			EnhancedCode: r.Enhanced, Text: r.Text, Attempts: r.Attempts, NextAttemptAt: moment(r.NextAttemptAt),
			SuppressedBy: orNull(r.SuppressedBy),
		}
		if by := r.AcceptedBy; by != nil {
			j.AcceptedBy = &acceptedJSON{Host: by.Host, Code: by.Code, Text: by.Text, At: moment(by.At), Means: by.Means}
		}
		out.Recipients = append(out.Recipients, j)
	}
	return out
}

func address(a email.Address) addressJSON {
	return addressJSON{Type: "email", Target: a.Email, TargetName: a.Name, Name: a.Label, Detail: a.Detail}
}

func addresses(as []email.Address) []addressJSON {
	out := make([]addressJSON, len(as))
	for i, a := range as {
		out[i] = address(a)
	}
	return out
}
