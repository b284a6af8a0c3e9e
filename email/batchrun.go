package email

// SendBatchInput starts SendBatch for a batch that is stored already.
type SendBatchInput struct {
	BatchID string `json:"batch_id"`
	// Sent carries the counts over to a continued run.
	Sent BatchCounts `json:"sent,omitzero"`
}

// BatchCounts counts what a batch's run has sent: attempts by how each e-mail stood
// after it.
type BatchCounts struct {
	Delivered int `json:"delivered"`
	Bounced   int `json:"bounced,omitempty"`
	Failed    int `json:"failed,omitempty"`
	Canceled  int `json:"canceled,omitempty"`
	// Open are those that go on: deferred ones, in runs of their own.
	Open int `json:"open,omitempty"`
}

// Add adds other counts.
func (c *BatchCounts) Add(o BatchCounts) {
	c.Delivered += o.Delivered
	c.Bounced += o.Bounced
	c.Failed += o.Failed
	c.Canceled += o.Canceled
	c.Open += o.Open
}

// Attempted is how many attempts they stand for.
func (c BatchCounts) Attempted() int { return c.Delivered + c.Bounced + c.Failed + c.Canceled + c.Open }

// SendBatchResult is what the run did. The e-mails themselves say what became of them.
type SendBatchResult struct {
	BatchID string      `json:"batch_id"`
	Sent    BatchCounts `json:"sent"`
}
