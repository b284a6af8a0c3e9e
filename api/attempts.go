package api

import (
	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
)

// attemptJSON is an entry of an e-mail's journal.
type attemptJSON struct {
	Attempt int                `json:"attempt"`
	Phase   email.JournalPhase `json:"phase"`
	Relay   string             `json:"relay,omitempty"`
	Host    string             `json:"host,omitempty"`
	// RecipientIDs are the recipients of the attempt.
	RecipientIDs  []string     `json:"recipient_ids"`
	OpenedAt      *string      `json:"opened_at"`
	DataSentAt    *string      `json:"data_sent_at"`
	DoneAt        *string      `json:"done_at"`
	MessageSHA256 string       `json:"message_sha256,omitempty"`
	MessageBytes  int64        `json:"message_bytes,omitempty"`
	Transcript    []email.Step `json:"transcript"`
}

// attempts lists the SMTP transactions of an e-mail with their transcripts.
func (h *eventHandlers) attempts(c *gin.Context) (int, any, error) {
	return numberedOfEmail(c, h.store.Attempts, newAttemptJSON)
}

func newAttemptJSON(a email.Attempt) attemptJSON {
	return attemptJSON{
		Attempt: a.Number, Phase: a.Phase, Relay: a.Relay.Name, Host: a.Relay.Host, RecipientIDs: a.RecipientIDs,
		OpenedAt: moment(a.OpenedAt), DataSentAt: moment(a.DataSentAt), DoneAt: moment(a.DoneAt),
		MessageSHA256: a.MessageSHA256, MessageBytes: a.MessageBytes, Transcript: append([]email.Step{}, a.Transcript...),
	}
}
