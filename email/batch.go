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
	// BatchPermissive accepts the valid items and lists the refused ones.
	BatchPermissive BatchMode = "permissive"
)

// BatchRequest is many messages that are accepted in one transaction.
type BatchRequest struct {
	Mode BatchMode
	// Len is how many items there are; Message returns the i-th. It is called one or more
	// times per item, in order, so that not all are in memory at once. Its error is the Failure
	// that refuses the item.
	Len     int
	Message func(i int) (Message, error)
	// Place is the JSON Pointer to the i-th message in the request, Sender that to its
	// sender.
	Place, Sender func(i int) string
	// Refuse returns why the sender of the item may not send it, or nil. If Refuse is nil, no
	// item is refused.
	Refuse func(i int, m Message) *Failure
}

// Batch is an accepted BatchRequest. Each accepted item is an e-mail of its own.
type Batch struct {
	ID         string
	CustomerID string
	// WorkflowID is the workflow id of the run that sends the batch.
	WorkflowID string
	// Stream is that of its most urgent e-mail: broadcast if all of them are.
	Stream Stream
	Mode   BatchMode
	// Total is how many items there were, refused ones included.
	Total int
	// RefusedCount is how many items were refused. Refused lists them with the reasons; only
	// the response that accepts the batch has it.
	RefusedCount int
	Refused      []RefusedItem
	// Held: the whole batch was held and not resumed.
	Held      bool
	CreatedAt time.Time
	// FinishedAt is zero while any of its e-mails is open.
	FinishedAt time.Time
}

// Accepted is how many e-mails the batch has.
func (b Batch) Accepted() int { return b.Total - b.RefusedCount }

// RefusedItem is an item that was not accepted.
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
	// Detail is scheduled if the first attempt is later; otherwise it is empty.
	Detail Detail
}

// BatchProgress is a batch with the counts of its e-mails.
type BatchProgress struct {
	Batch
	// Emails counts the e-mails by status. Details counts the open ones by their detail.
	Emails  StatusCounts
	Details map[Detail]int
	// Rate is how many e-mails per second were finished in the last 10 s, without canceled
	// ones.
	Rate float64
	// NextAt is when the next e-mail is due; zero if none waits for a time.
	NextAt time.Time
}
