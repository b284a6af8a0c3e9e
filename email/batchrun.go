package email

// SendBatchInput starts SendBatch for a batch that is stored already.
type SendBatchInput struct {
	BatchID string `json:"batch_id"`
	// Sent are the counts of the runs before a continue-as-new.
	Sent BatchCounts `json:"sent,omitzero"`
}

// BatchCounts counts the attempts of a batch's run, by the e-mail's status after the attempt.
type BatchCounts struct {
	Delivered int `json:"delivered"`
	Bounced   int `json:"bounced,omitempty"`
	Failed    int `json:"failed,omitempty"`
	Canceled  int `json:"canceled,omitempty"`
	// Open are the e-mails that are still open: deferred ones, which continue in runs of their
	// own.
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

// Attempted is the number of attempts.
func (c BatchCounts) Attempted() int { return c.Delivered + c.Bounced + c.Failed + c.Canceled + c.Open }

// SendBatchResult counts what the run sent. Later attempts at deferred e-mails are not in it.
type SendBatchResult struct {
	BatchID string      `json:"batch_id"`
	Sent    BatchCounts `json:"sent"`
}
