package email

import "time"

// Limits of a batch.
const (
	// MaxBatchMessages bounds the messages of one request.
	MaxBatchMessages = 1000
	// MaxBatchRecipients bounds the recipients of one request with one message for
	// all of them.
	MaxBatchRecipients = 10000
	// MaxBatchContentBytes bounds what is stored for all e-mails of a batch together, once
	// the variables are filled in: subjects, texts, HTML, calendars, headers, metadata,
	// tags, and names and addresses of recipients and attachments. The bytes of files are
	// stored once and do not count.
	MaxBatchContentBytes int64 = 256 << 20
	// MaxBatchProblems bounds the problems that the refusal of a whole batch lists.
	MaxBatchProblems = 100
	// MaxBatchRefusedFields bounds the problems that a permissive batch keeps of its refused
	// items. Past that an item has its code and detail only.
	MaxBatchRefusedFields = 1000
)

// BatchMode says what becomes of a batch in which some items are refused.
type BatchMode string

// The modes. Strict is the default.
const (
	// BatchStrict refuses the whole batch: all of it is accepted, or nothing.
	BatchStrict BatchMode = "strict"
	// BatchPermissive accepts what is good and tells what is not.
	BatchPermissive BatchMode = "permissive"
)

// BatchRequest is many messages to be accepted together.
type BatchRequest struct {
	Mode BatchMode
	// Len is how many items there are; Message makes the i-th. It is called once or
	// more for each, in order, so that not all are in memory at once. An error is the
	// Failure that refuses the item.
	Len     int
	Message func(i int) (Message, error)
	// Place is where the request has the i-th message, Sender where it names that
	// one's sender, as JSON Pointers.
	Place, Sender func(i int) string
	// Refuse says whether and why the sender of the item may not send it. nil refuses
	// none.
	Refuse func(i int, m Message) *Failure
}

// Batch is what became of a BatchRequest. Each item is an e-mail of its own.
type Batch struct {
	ID         string
	CustomerID string
	// WorkflowID is the run that works through the batch.
	WorkflowID string
	Mode       BatchMode
	// Total is how many items there were, refused ones included.
	Total int
	// RefusedCount is how many items were refused. Refused says why, in the answer to the
	// acceptance only.
	RefusedCount int
	Refused      []RefusedItem
	// Held: the whole batch was held and not resumed.
	Held      bool
	CreatedAt time.Time
	// FinishedAt is zero while any of its e-mails is open.
	FinishedAt time.Time
}

// Accepted is how many e-mails it made.
func (b Batch) Accepted() int { return b.Total - b.RefusedCount }

// RefusedItem is an item that made no e-mail.
type RefusedItem struct {
	Index  int
	Code   Code
	Detail string
	Fields []FieldError
}

// BatchItem is an item that became an e-mail.
type BatchItem struct {
	Index   int
	EmailID string
	// Detail is scheduled where the first attempt is for later.
	Detail Detail
}

// BatchProgress is how far a batch has come.
type BatchProgress struct {
	Batch
	// Emails counts its e-mails by status; Details counts the open ones by what they
	// wait for.
	Emails  StatusCounts
	Details map[Detail]int
	// Rate is how many e-mails a second have reached their end over the last 10 s,
	// canceled ones left out.
	Rate float64
	// NextAt is when the next of them is due; zero when none waits.
	NextAt time.Time
}
