package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
	"github.com/postrider/postrider/internal/intake"
)

// Previews refuses what Emails.Accept would refuse, and stores nothing. It gives the
// message with what is known of the files it refers to, and who sent the customer's
// last e-mails of its stream.
type Previews interface {
	Preview(ctx context.Context, customerID string, m email.Message) (email.Message, email.SenderUse, error)
}

// Rendering is a message's bytes to be read by people.
type Rendering struct {
	// Source lacks the contents of the attachments in Shortened, which are indexes.
	Source []byte
	// SizeBytes is the size of the whole message, as far as it is known.
	SizeBytes int64
	Shortened []int
}

// previewContent is the largest attachment that a preview shows, in bytes.
const previewContent = 4 << 10

type previewJSON struct {
	Source string `json:"source"`
	// Shortened points at the attachments that Source has a placeholder for.
	Shortened []string    `json:"shortened"`
	SizeBytes int64       `json:"size_bytes"`
	Text      string      `json:"text"`
	Checks    []checkJSON `json:"checks"`
}

type checkJSON struct {
	ID     string       `json:"id"`
	Level  advice.Level `json:"level"`
	Title  string       `json:"title"`
	Detail string       `json:"detail"`
	Where  string       `json:"where,omitempty"`
}

// preview shows what a POST of the same body would send.
func (s *Server) preview(c *gin.Context) (int, any, error) {
	release, err := s.room(c)
	if err != nil {
		return 0, nil, err
	}
	defer release()
	m, sender, err := s.outgoing(c)
	if err != nil {
		return 0, nil, err
	}
	m, senders, err := s.deps.Previews.Preview(c.Request.Context(), customerOf(c).ID, m)
	if err != nil {
		return 0, nil, atSender(err, sender)
	}
	date := time.Now()
	if m.SendAt.After(date) {
		date = m.SendAt
	}
	r, err := s.deps.Render(m, previewID(m), date, previewContent)
	if err != nil {
		return 0, nil, fmt.Errorf("render preview: %w", err)
	}
	out := previewJSON{Source: string(r.Source), Shortened: make([]string, len(r.Shortened)), SizeBytes: r.SizeBytes, Text: m.Text}
	for i, index := range r.Shortened {
		out.Shortened[i] = fmt.Sprintf("/attachments/%d", index)
	}
	for _, check := range advice.Checks(m, advice.Facts{SizeBytes: r.SizeBytes, Senders: senders}) {
		out.Checks = append(out.Checks, checkJSON(check))
	}
	return http.StatusOK, out, nil
}

// previewID stands where an e-mail's id would. The same message has the same, so that
// two previews differ in what the messages differ in.
func previewID(m email.Message) string {
	return uuid.NewSHA1(uuid.Nil, []byte(intake.Fingerprint(m))).String()
}
