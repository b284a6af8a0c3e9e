package mail

import (
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/pacing"
)

// addressJSON is how an address without a row of its own is kept.
type addressJSON struct {
	Email  string `json:"email"`
	Name   string `json:"name,omitempty"`
	Label  string `json:"label,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// emailRow is an e-mail without its bodies.
type emailRow struct {
	bun.BaseModel `bun:"table:emails,alias:e"`

	ID         string `bun:"id,pk,type:uuid"`
	CustomerID string `bun:"customer_id,type:uuid"`
	WorkflowID string `bun:"workflow_id"`
	BatchID    string `bun:"batch_id,type:uuid,nullzero"`
	BatchIndex *int   `bun:"batch_index"`

	FromEmail   string            `bun:"from_email"`
	FromName    string            `bun:"from_name"`
	FromLabel   string            `bun:"from_label"`
	FromDetail  string            `bun:"from_detail"`
	ReplyTo     []addressJSON     `bun:"reply_to,type:jsonb"`
	Subject     string            `bun:"subject"`
	Metadata    map[string]string `bun:"metadata,type:jsonb"`
	Tags        []string          `bun:"tags,array"`
	Stream      email.Stream      `bun:"stream"`
	OnAmbiguous email.OnAmbiguous `bun:"on_ambiguous"`
	CallbackID  string            `bun:"callback_id,type:uuid,nullzero"`
	// LinkBase is where its link to unsubscribe by leads: when it was accepted, then by settle.
	Topic              string    `bun:"topic"`
	Unsubscribe        bool      `bun:"unsubscribe"`
	LinkBase           string    `bun:"link_base"`
	IgnoreSuppressions bool      `bun:"ignore_suppressions"`
	SendAt             time.Time `bun:"send_at,nullzero"`
	ExpiresAt          time.Time `bun:"expires_at,nullzero"`
	SizeBytes          int64     `bun:"size_bytes"`
	Attachments        int       `bun:"attachments"`

	Status   email.Status `bun:"status"`
	Detail   email.Detail `bun:"status_detail"`
	StatusAt time.Time    `bun:"status_at"`
	holds
	Paused      bool   `bun:"paused"`
	PausedRelay string `bun:"paused_relay"`
	RelayDown   bool   `bun:"relay_down"`
	RelayDownBy string `bun:"relay_down_by"`
	NoRelay     bool   `bun:"no_relay"`
	// RefusedPath is nil unless a relay refuses the return path and takes other mail. A batch notes it in its own row.
	RefusedPath    *refusedPath `bun:"refused_path,type:jsonb,nullzero"`
	ThrottledUntil time.Time    `bun:"throttled_until,nullzero"`
	// ThrottledBy is whose slot the e-mail waits for: the relay's until ThrottledUntil,
	// else that of the recipient who is next.
	ThrottledBy     email.ThrottledBy `bun:"throttled_by"`
	CancelRequested bool              `bun:"cancel_requested"`
	Attempts        int               `bun:"attempts"`
	AttemptOpen     bool              `bun:"attempt_open"`
	// AmbiguousRelay is the relay whose answer to the message never came, while a recipient
	// waits for that reason. Empty means none.
	AmbiguousRelay string `bun:"ambiguous_relay"`
	// DateAt is when the first attempt opened that was not the relay's fault: the time until expiry
	// begins there.
	DateAt time.Time `bun:"date_at,nullzero"`
	// DatedAt is the Date header of a message that has been sent and may lose its DateAt; zero means
	// DateAt.
	DatedAt time.Time `bun:"dated_at,nullzero"`
	// Token, BounceHost and DKIMKeys are written by settle.
	Token        string    `bun:"token"`
	BounceHost   string    `bun:"bounce_host"`
	DKIMKeys     []string  `bun:"dkim_keys,array,type:uuid[],nullzero"`
	Sequence     int64     `bun:"sequence"`
	NextActionAt time.Time `bun:"next_action_at,nullzero"`
	CreatedAt    time.Time `bun:"created_at"`
	DeletedAt    time.Time `bun:"deleted_at,nullzero"`
}

// The columns of rows that prepared statements read.
var (
	emailColumns   = pg.Columns[emailRow]("e")
	attemptColumns = pg.Columns[attemptRow]("a")
)

// run is how its run is started and found.
func (r *emailRow) run() delivery.Start {
	return delivery.RunOf(email.Email{ID: r.ID, WorkflowID: r.WorkflowID, BatchID: r.BatchID, CustomerID: r.CustomerID, Message: email.Message{Stream: r.Stream}})
}

// date is the Date header of every attempt that sends the message.
func (r *emailRow) date() time.Time {
	if r.DatedAt.IsZero() {
		return r.DateAt.UTC()
	}
	return r.DatedAt.UTC()
}

// returnPath is the reverse-path of every attempt that sends the message.
func (r *emailRow) returnPath() string {
	if r.BounceHost == "" {
		return r.FromEmail
	}
	return delivery.ReturnPath(r.Token, r.BounceHost)
}

// batched reports whether a batch's run answers for it.
func (r *emailRow) batched() bool { return r.run().BatchID != "" }

func (r *emailRow) route() delivery.Route {
	return delivery.Route{Stream: r.Stream, SenderDomain: email.DomainOf(r.FromEmail), Bytes: r.SizeBytes}
}

type contentRow struct {
	bun.BaseModel `bun:"table:contents,alias:c"`

	EmailID      string       `bun:"email_id,pk,type:uuid"`
	Text         string       `bun:"body_text"`
	TextFromHTML bool         `bun:"text_from_html"`
	HTML         string       `bun:"body_html"`
	Method       string       `bun:"calendar_method"`
	Calendar     string       `bun:"calendar"`
	Headers      []headerJSON `bun:"headers,type:jsonb"`
}

type headerJSON struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// recipientRow is read as JSON too, with its e-mail.
type recipientRow struct {
	bun.BaseModel `bun:"table:recipients,alias:r" json:"-"`

	ID       string              `bun:"id,pk,type:uuid" json:"id"`
	EmailID  string              `bun:"email_id,type:uuid" json:"email_id"`
	Position int                 `bun:"position" json:"position"`
	Kind     email.RecipientKind `bun:"kind" json:"kind"`
	Address  string              `bun:"address" json:"address"`
	Name     string              `bun:"name" json:"name"`
	Label    string              `bun:"label" json:"label"`
	Detail   string              `bun:"detail" json:"detail"`

	Status   email.RecipientStatus `bun:"status" json:"status"`
	Reason   email.Detail          `bun:"reason" json:"reason"`
	StatusAt time.Time             `bun:"status_at" json:"status_at"`
	Attempt  int                   `bun:"attempt" json:"attempt"`
	Attempts int                   `bun:"attempts" json:"attempts"`
	Counted  int                   `bun:"counted" json:"counted"`
	// Ambiguous is how many attempts have ended without the relay's answer to the message.
	Ambiguous     int               `bun:"ambiguous" json:"ambiguous"`
	NextAttemptAt time.Time         `bun:"next_attempt_at,nullzero" json:"next_attempt_at"`
	SMTPCode      int               `bun:"smtp_code" json:"smtp_code"`
	Enhanced      string            `bun:"enhanced_code" json:"enhanced_code"`
	SMTPText      string            `bun:"smtp_text" json:"smtp_text"`
	AcceptedBy    *email.Acceptance `bun:"accepted_by,type:jsonb,nullzero" json:"accepted_by"`
	Turn          *pacing.Turn      `bun:"turn,type:jsonb,nullzero" json:"turn"`
	// AddressKey finds suppressions of the address. Empty: a version stored it that had none.
	AddressKey string `bun:"address_key" json:"address_key"`
	// SuppressedBy is the entry that ended it; empty if none did.
	SuppressedBy string `bun:"suppressed_by,type:uuid,nullzero" json:"suppressed_by"`

	// changed: the row is to be written though its state is the same.
	changed bool
}

func (r *recipientRow) reply() email.Reply {
	return email.Reply{Code: r.SMTPCode, Enhanced: r.Enhanced, Text: r.SMTPText}
}

func (r *recipientRow) setReply(p email.Reply) {
	r.SMTPCode, r.Enhanced, r.SMTPText = p.Code, pg.CleanText(p.Enhanced), pg.CleanText(p.Text)
}

// attemptRow is written as JSON too.
type attemptRow struct {
	bun.BaseModel `bun:"table:delivery_attempts,alias:a" json:"-"`

	EmailID       string             `bun:"email_id,pk,type:uuid" json:"email_id"`
	Attempt       int                `bun:"attempt,pk" json:"attempt"`
	Part          int                `bun:"part,pk" json:"part"`
	Phase         email.JournalPhase `bun:"phase" json:"phase"`
	Owner         string             `bun:"owner,type:uuid" json:"owner"`
	LeaseUntil    time.Time          `bun:"lease_until" json:"lease_until"`
	Recalled      bool               `bun:"recalled" json:"recalled"`
	RecipientIDs  []string           `bun:"recipient_ids,array,type:uuid[]" json:"recipient_ids"`
	Relay         email.Relay        `bun:"relay,type:jsonb" json:"relay"`
	Outcomes      []delivery.Outcome `bun:"outcomes,type:jsonb,nullzero" json:"outcomes,omitzero"`
	Transcript    []email.Step       `bun:"transcript,type:jsonb,nullzero" json:"transcript,omitzero"`
	MessageSHA256 string             `bun:"message_sha256" json:"message_sha256"`
	MessageBytes  int64              `bun:"message_bytes" json:"message_bytes"`
	OpenedAt      time.Time          `bun:"opened_at" json:"opened_at"`
	DataSentAt    time.Time          `bun:"data_sent_at,nullzero" json:"data_sent_at,omitzero"`
	DoneAt        time.Time          `bun:"done_at,nullzero" json:"done_at,omitzero"`
}

// sent reports whether bytes of the message went to the relay. The journal is marked before the final
// dot; the transcript also shows a transaction that ended within the message.
func (r *attemptRow) sent() bool {
	return r.MessageSHA256 != "" || slices.ContainsFunc(r.Transcript, func(s email.Step) bool { return s.Command == "DATA" && s.Code == 354 })
}

// eventRow is written as JSON.
type eventRow struct {
	bun.BaseModel `bun:"table:email_events,alias:ev" json:"-"`

	ID          string          `bun:"id,pk,type:uuid" json:"id" sql:"uuid"`
	EmailID     string          `bun:"email_id,type:uuid" json:"email_id" sql:"uuid"`
	CustomerID  string          `bun:"customer_id,type:uuid" json:"customer_id" sql:"uuid"`
	Sequence    int64           `bun:"sequence" json:"sequence"`
	Type        email.EventType `bun:"type" json:"type"`
	RecipientID string          `bun:"recipient_id,type:uuid,nullzero" json:"recipient_id,omitempty" sql:"uuid"`
	Attempt     int             `bun:"attempt" json:"attempt"`
	SMTPCode    int             `bun:"smtp_code" json:"smtp_code"`
	Enhanced    string          `bun:"enhanced_code" json:"enhanced_code"`
	SMTPText    string          `bun:"smtp_text" json:"smtp_text"`
	Reason      email.Detail    `bun:"reason" json:"reason"`
	Holder      email.Holder    `bun:"holder" json:"holder"`
	At          time.Time       `bun:"at" json:"at"`
}

func (r *eventRow) event() email.Event {
	return email.Event{
		ID: r.ID, EmailID: r.EmailID, CustomerID: r.CustomerID, Sequence: r.Sequence, Type: r.Type,
		RecipientID: r.RecipientID, Attempt: r.Attempt, Reason: r.Reason, Holder: r.Holder, At: r.At,
		Reply: email.Reply{Code: r.SMTPCode, Enhanced: r.Enhanced, Text: r.SMTPText},
	}
}

type outboxRow struct {
	bun.BaseModel `bun:"table:outbox,alias:o"`

	EmailID    string       `bun:"email_id,pk,type:uuid"`
	Stream     email.Stream `bun:"stream"`
	CustomerID string       `bun:"customer_id,type:uuid"`
	LeaseOwner string       `bun:"lease_owner,type:uuid"`
	LeaseUntil time.Time    `bun:"lease_until"`
	Attempts   int          `bun:"attempts"`
	CreatedAt  time.Time    `bun:"created_at"`
}

type attachmentRow struct {
	bun.BaseModel `bun:"table:attachments,alias:at"`

	ID            string              `bun:"id,pk,type:uuid"`
	EmailID       string              `bun:"email_id,type:uuid"`
	Position      int                 `bun:"position"`
	Filename      string              `bun:"filename"`
	Type          string              `bun:"type"`
	ContentID     string              `bun:"content_id"`
	ReferenceType email.ReferenceType `bun:"reference_type"`
	ReferenceID   string              `bun:"reference_id,type:uuid,nullzero"`
	URL           string              `bun:"url"`
	Optional      bool                `bun:"optional"`
	BlobID        string              `bun:"blob_id,type:uuid,nullzero"`
	Size          int64               `bun:"size"`
	SHA256        string              `bun:"sha256"`
	Problem       string              `bun:"problem"`
}

func (r *attachmentRow) attachment() email.Attachment {
	return email.Attachment{
		ID: r.ID, Filename: r.Filename, Type: r.Type, ContentID: r.ContentID, ReferenceType: r.ReferenceType,
		ReferenceID: r.ReferenceID, URL: r.URL, Optional: r.Optional, BlobID: r.BlobID, Size: r.Size, SHA256: r.SHA256, Problem: r.Problem,
	}
}

func addressesOf(rows []addressJSON) []email.Address {
	out := make([]email.Address, len(rows))
	for i, a := range rows {
		out[i] = email.Address{Email: a.Email, Name: a.Name, Label: a.Label, Detail: a.Detail}
	}
	return out
}

func addressRows(as []email.Address) []addressJSON {
	out := make([]addressJSON, len(as))
	for i, a := range as {
		out[i] = addressJSON{Email: a.Email, Name: a.Name, Label: a.Label, Detail: a.Detail}
	}
	return out
}

// emailOf puts rows together. A nil content or attachment list leaves those out.
func emailOf(e *emailRow, rs []*recipientRow, c *contentRow, as []*attachmentRow) email.Email {
	out := email.Email{
		ID: e.ID, CustomerID: e.CustomerID, WorkflowID: e.WorkflowID, BatchID: e.BatchID,
		Message: email.Message{
			From:    email.Address{Email: e.FromEmail, Name: e.FromName, Label: e.FromLabel, Detail: e.FromDetail},
			ReplyTo: addressesOf(e.ReplyTo), Subject: e.Subject, Metadata: e.Metadata, Tags: e.Tags,
			SendAt: pg.UTC(e.SendAt), ExpiresAt: pg.UTC(e.ExpiresAt), OnAmbiguous: e.OnAmbiguous, Stream: e.Stream,
			Topic: e.Topic, Unsubscribe: e.Unsubscribe, IgnoreSuppressions: e.IgnoreSuppressions,
		},
		Status: e.Status, Detail: e.Detail, HeldBy: e.holders(), Attempts: e.Attempts,
		CreatedAt: pg.UTC(e.CreatedAt), StatusAt: pg.UTC(e.StatusAt), DeletedAt: pg.UTC(e.DeletedAt),
	}
	if e.Attempts > 0 {
		out.ReturnPath = e.returnPath()
	}
	if !e.AttemptOpen && !e.Held && !e.Paused {
		out.NextAttemptAt = pg.UTC(e.NextActionAt)
	}
	for _, r := range rs {
		a := email.Address{Email: r.Address, Name: r.Name, Label: r.Label, Detail: r.Detail}
		switch r.Kind {
		case email.KindTo:
			out.To = append(out.To, a)
		case email.KindCc:
			out.Cc = append(out.Cc, a)
		case email.KindBcc:
			out.Bcc = append(out.Bcc, a)
		}
		out.Recipients = append(out.Recipients, email.Recipient{
			ID: r.ID, Kind: r.Kind, Address: a, Status: r.Status, Reason: r.Reason, Attempts: r.Attempts,
			Reply: r.reply(), NextAttemptAt: pg.UTC(r.NextAttemptAt), AcceptedBy: r.AcceptedBy, StatusAt: pg.UTC(r.StatusAt), SuppressedBy: r.SuppressedBy,
		})
	}
	if c != nil {
		out.Text, out.TextFromHTML, out.HTML = c.Text, c.TextFromHTML, c.HTML
		out.Calendar = email.Calendar{Method: c.Method, ICS: c.Calendar}
		for _, h := range c.Headers {
			out.Headers = append(out.Headers, email.Header(h))
		}
	}
	for _, a := range as {
		out.Attachments = append(out.Attachments, a.attachment())
	}
	return out
}
