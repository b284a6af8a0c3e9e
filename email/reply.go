package email

// Reply is what an SMTP server answered (RFC 5321 section 4.2, RFC 3463).
type Reply struct {
	// Code is the three-digit reply code; 0 means that no reply came.
	Code int `json:"code,omitempty"`
	// Enhanced is the enhanced status code, as "5.1.1"; empty if the server gave none.
	Enhanced string `json:"enhanced_code,omitempty"`
	// Text is the rest, lines joined by spaces, at most MaxReplyText bytes.
	Text string `json:"text,omitempty"`
}

// MaxReplyText bounds the text kept of one reply, in bytes.
const MaxReplyText = 1024

// AcceptMeans says what a relay's 250 stands for.
type AcceptMeans string

// A relay that is the recipient's own server answers for the mailbox; any
// other only promises to try.
const (
	AcceptsFinal AcceptMeans = "final"
	AcceptsRelay AcceptMeans = "relay"
)

// Relay names the server an attempt went to.
type Relay struct {
	Name    string      `json:"name,omitempty"`
	Host    string      `json:"host,omitempty"`
	Accepts AcceptMeans `json:"accepts,omitempty"`
}

// Step is one exchange of the transcript. Credentials never appear in it.
type Step struct {
	Command string `json:"command"`
	Reply
	// MS is how long the answer took, in milliseconds.
	MS int64 `json:"ms"`
	// Error is set when no answer came.
	Error string `json:"error,omitempty"`
}

// JournalPhase is how far an attempt has come, as far as Postgres knows.
type JournalPhase string

// The phases of an attempt. What happened between data_sent and done is known
// only to the server at the other end: that is the ambiguous stretch.
const (
	PhaseOpened   JournalPhase = "opened"
	PhaseDataSent JournalPhase = "data_sent"
	PhaseDone     JournalPhase = "done"
)
