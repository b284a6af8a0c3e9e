package email

// Reply is the reply of an SMTP server (RFC 5321 section 4.2, RFC 3463).
type Reply struct {
	// Code is the three-digit reply code; 0 means that no reply came.
	Code int `json:"code,omitempty"`
	// Enhanced is the enhanced status code, as "5.1.1"; empty if the server gave none.
	Enhanced string `json:"enhanced_code,omitempty"`
	// Text is the rest of the reply, its lines joined by spaces, at most MaxReplyText bytes.
	Text string `json:"text,omitempty"`
}

// MaxReplyText bounds the stored text of one reply, in bytes.
const MaxReplyText = 1024

// AcceptMeans is what a relay's 250 means.
type AcceptMeans string

const (
	// AcceptsFinal: the relay is the recipient's own server and answers for the mailbox.
	AcceptsFinal AcceptMeans = "final"
	// AcceptsRelay: the relay passes the message on, and a bounce may follow.
	AcceptsRelay AcceptMeans = "relay"
)

// Relay is the server of an attempt.
type Relay struct {
	Name    string      `json:"name,omitempty"`
	Host    string      `json:"host,omitempty"`
	Accepts AcceptMeans `json:"accepts,omitempty"`
}

// Step is one exchange of the transcript. Credentials never appear in it.
type Step struct {
	Command string `json:"command"`
	Reply
	// MS is how long the reply took, in milliseconds.
	MS int64 `json:"ms"`
	// Error is set if no reply came.
	Error string `json:"error,omitempty"`
}

// JournalPhase is the phase of an attempt, as it is stored in Postgres.
type JournalPhase string

const (
	// PhaseOpened: the gate has opened the attempt. Its message was not sent.
	PhaseOpened JournalPhase = "opened"
	// PhaseDataSent: the attempt is about to write its final dot, or has written it. If it is
	// not done, it is ambiguous: only the server knows whether it accepted the message.
	PhaseDataSent JournalPhase = "data_sent"
	// PhaseDone: the outcomes are in the journal.
	PhaseDone JournalPhase = "done"
)
