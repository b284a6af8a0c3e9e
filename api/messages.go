package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/mailbox"
	"github.com/postrider/postrider/internal/portion"
)

// messageJSON is the entry of a list for a received message.
type messageJSON struct {
	ID           string   `json:"id"`
	MailboxID    string   `json:"mailbox_id"`
	EnvelopeFrom string   `json:"envelope_from"`
	EnvelopeTo   []string `json:"envelope_to"`
	RemoteAddr   string   `json:"remote_addr"`
	Helo         string   `json:"helo"`
	Subject      string   `json:"subject"`
	From         string   `json:"from"`
	To           string   `json:"to"`
	MessageID    string   `json:"message_id"`
	Size         int64    `json:"size"`
	SHA256       string   `json:"sha256"`
	TmReceive    string   `json:"tm_receive"`
}

func receivedMessage(m mailbox.Message) messageJSON {
	return messageJSON{
		ID: m.ID.String(), MailboxID: m.MailboxID.String(), EnvelopeFrom: m.EnvelopeFrom, EnvelopeTo: m.EnvelopeTo, RemoteAddr: m.RemoteAddr, Helo: m.Helo,
		Subject: m.Subject, From: m.From, To: m.To, MessageID: m.MessageID, Size: m.Size, SHA256: m.SHA256, TmReceive: stamp(m.ReceivedAt),
	}
}

func (h *mailboxHandlers) messages(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "mailbox")
	if err != nil {
		return 0, nil, err
	}
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	if err := reservePage(c, portion.Page(size)); err != nil {
		return 0, nil, err
	}
	ms, next, err := h.store.Messages(c.Request.Context(), customerOf(c).ID, id, after, size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(ms, next, receivedMessage), nil
}

type headerJSON struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type partyJSON struct {
	Name  string `json:"name"`
	Email string `json:"email"`
}

type partJSON struct {
	Index       int    `json:"index"`
	Filename    string `json:"filename"`
	Type        string `json:"type"`
	ContentID   string `json:"content_id"`
	Disposition string `json:"disposition"`
	Size        int64  `json:"size"`
	SHA256      string `json:"sha256"`
}

// parsedJSON is the answer for one message, with its parsed content.
type parsedJSON struct {
	messageJSON
	Parsed contentJSON `json:"parsed"`
}

type contentJSON struct {
	Headers     []headerJSON `json:"headers"`
	From        []partyJSON  `json:"from"`
	To          []partyJSON  `json:"to"`
	Cc          []partyJSON  `json:"cc"`
	ReplyTo     []partyJSON  `json:"reply_to"`
	Subject     string       `json:"subject"`
	Date        *string      `json:"date"`
	Text        string       `json:"text"`
	HTML        string       `json:"html"`
	Attachments []partJSON   `json:"attachments"`
	Problems    []string     `json:"problems"`
}

// message reads the message that the path names. The reader returns its content.
func (h *mailboxHandlers) message(c *gin.Context) (mailbox.Message, io.Reader, error) {
	box, err := pathID(c, "id", "mailbox")
	if err != nil {
		return mailbox.Message{}, nil, err
	}
	id, err := pathID(c, "message", "message")
	if err != nil {
		return mailbox.Message{}, nil, err
	}
	return h.store.ReceivedMessage(c.Request.Context(), customerOf(c).ID, box, id)
}

// Memory of parsing a message, in bytes.
const (
	// parsedBytes limits what the parser allocates besides the message.
	parsedBytes = 40 << 20
	// shownBytes limits the content of an answer before it is JSON: 2 MiB of text, 2 MiB of HTML,
	// and the header.
	shownBytes = 5 << 20
)

// wholeMessage reads the message that the path names into memory, to be parsed. It reserves memory
// for the message, the parser and the answer; answer returns the bytes for the answer to a message
// of a given size.
func (h *mailboxHandlers) wholeMessage(c *gin.Context, answer func(size int64) int64) (m mailbox.Message, raw []byte, err error) {
	m, content, err := h.message(c)
	if err != nil {
		return m, nil, err
	}
	if err := reserve(c, budgetOf(c).work, m.Size+min(3*m.Size, parsedBytes)+answer(m.Size)+smallAnswer); err != nil {
		return m, nil, err
	}
	raw = make([]byte, m.Size)
	if _, err := io.ReadFull(content, raw); err != nil {
		return m, nil, fmt.Errorf("read message %s: %w", m.ID, err)
	}
	return m, raw, nil
}

func (h *mailboxHandlers) parsedMessage(c *gin.Context) (int, any, error) {
	// Four times the content: the content, and its JSON in a growing buffer.
	m, raw, err := h.wholeMessage(c, func(size int64) int64 { return 4 * min(size, shownBytes) })
	if err != nil {
		return 0, nil, err
	}
	// compute fails only if no processor is free. An error of Parse comes with a part of the
	// message, which is shown.
	var unread error
	p, err := compute(c, m.Size, func() (p mailbox.Parsed, _ error) {
		p, unread = h.parser.Parse(raw)
		return p, nil
	})
	if err != nil {
		return 0, nil, err
	}
	if err := unread; err != nil {
		// Show what the parser has read.
		p.Problems = append(p.Problems, strings.ReplaceAll(err.Error(), "mailbox: ", ""))
		if p.Subject == "" {
			p.Subject = m.Subject
		}
	}
	out := parsedJSON{messageJSON: receivedMessage(m), Parsed: contentJSON{
		Headers: make([]headerJSON, len(p.Headers)), From: parties(p.From), To: parties(p.To), Cc: parties(p.Cc), ReplyTo: parties(p.ReplyTo),
		Subject: p.Subject, Date: moment(p.DatedAt), Text: p.Text, HTML: p.HTML, Attachments: make([]partJSON, len(p.Attachments)), Problems: p.Problems,
	}}
	for i, h := range p.Headers {
		out.Parsed.Headers[i] = headerJSON(h)
	}
	for i, a := range p.Attachments {
		out.Parsed.Attachments[i] = partJSON(a)
	}
	if out.Parsed.Problems == nil {
		out.Parsed.Problems = []string{}
	}
	return http.StatusOK, out, nil
}

func parties(as []mailbox.Address) []partyJSON {
	out := make([]partyJSON, len(as))
	for i, a := range as {
		out[i] = partyJSON(a)
	}
	return out
}

// attachmentFailure returns the failure to answer with for an error of Parser.Attachment.
func attachmentFailure(err error) error {
	switch {
	case errors.Is(err, mailbox.ErrNoAttachment):
		return email.Fail(email.CodeNotFound, "there is no such attachment")
	case errors.Is(err, mailbox.ErrTooComplex):
		return email.Fail(codeTooComplex, "%s; get the whole message from /raw", strings.ReplaceAll(err.Error(), "mailbox: ", ""))
	case errors.Is(err, mailbox.ErrTooSlow):
		return email.Fail(email.CodeUnavailable, "parsing the message took too long; try again")
	default:
		return err
	}
}

// sandboxed sets headers that prevent a browser from running scripts in received or uploaded
// content.
func sandboxed(c *gin.Context) {
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Content-Security-Policy", "sandbox; default-src 'none'")
}

func (h *mailboxHandlers) rawMessage(c *gin.Context) {
	if err := reserveAnswer(c, streamBytes); err != nil {
		h.respond.problem(c, err)
		return
	}
	m, content, err := h.message(c)
	if err != nil {
		h.respond.problem(c, err)
		return
	}
	sandboxed(c)
	h.respond.stream(c, "message/rfc822", m.Size, content)
}

func (h *mailboxHandlers) attachment(c *gin.Context) {
	part, content, err := h.attachmentOf(c)
	if err != nil {
		h.respond.problem(c, err)
		return
	}
	sandboxed(c)
	c.Header("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": part.Filename}))
	h.respond.stream(c, "application/octet-stream", int64(len(content)), bytes.NewReader(content))
}

// attachmentOf returns an attachment of the message that the path names.
func (h *mailboxHandlers) attachmentOf(c *gin.Context) (mailbox.Part, []byte, error) {
	// Twice the size: line ends of a lone CR become CRLF.
	_, raw, err := h.wholeMessage(c, func(size int64) int64 { return 2 * size })
	if err != nil {
		return mailbox.Part{}, nil, err
	}
	index, err := strconv.Atoi(c.Param("index"))
	if err != nil {
		index = -1
	}
	var part mailbox.Part
	content, err := compute(c, int64(len(raw)), func() (content []byte, err error) {
		if part, content, err = h.parser.Attachment(raw, index); err != nil {
			return nil, attachmentFailure(err)
		}
		return content, nil
	})
	return part, content, err
}
