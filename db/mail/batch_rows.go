package mail

import (
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

type batchRow struct {
	bun.BaseModel `bun:"table:batches,alias:b"`

	ID         string          `bun:"id,pk,type:uuid"`
	CustomerID string          `bun:"customer_id,type:uuid"`
	Stream     email.Stream    `bun:"stream"`
	Mode       email.BatchMode `bun:"mode"`
	Total      int             `bun:"total"`
	Refused    []refusedJSON   `bun:"refused,type:jsonb"`
	// RefusedCount is how many there are, where they are not read.
	RefusedCount int `bun:"refused_count,scanonly"`
	holds
	LeaseOwner string    `bun:"lease_owner,type:uuid,nullzero"`
	LeaseUntil time.Time `bun:"lease_until,nullzero"`
	SeenAt     time.Time `bun:"seen_at"`
	CreatedAt  time.Time `bun:"created_at"`
}

type refusedJSON struct {
	Index  int         `json:"index"`
	Code   email.Code  `json:"code"`
	Detail string      `json:"detail"`
	Fields []fieldJSON `json:"fields,omitempty"`
}

type fieldJSON struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Detail  string `json:"detail"`
}

func newRefused(index int, f *email.Failure) refusedJSON {
	r := refusedJSON{Index: index, Code: f.Code, Detail: f.Detail}
	for _, e := range f.Fields {
		r.Fields = append(r.Fields, fieldJSON(e))
	}
	return r
}

func (r *batchRow) batch() email.Batch {
	b := email.Batch{
		ID: r.ID, CustomerID: r.CustomerID, Stream: r.Stream, WorkflowID: email.BatchWorkflowIDPrefix + r.ID, Mode: r.Mode, Total: r.Total, Held: r.Held, RefusedCount: max(r.RefusedCount, len(r.Refused)),
		CreatedAt: pg.UTC(r.CreatedAt),
	}
	for _, f := range r.Refused {
		item := email.RefusedItem{Index: f.Index, Code: f.Code, Detail: f.Detail}
		for _, e := range f.Fields {
			item.Fields = append(item.Fields, email.FieldError(e))
		}
		b.Refused = append(b.Refused, item)
	}
	return b
}

// batchColumns are all but the refused items, of which there may be thousands.
const batchColumns = "b.id, b.customer_id, b.stream, b.mode, b.total, jsonb_array_length(b.refused) AS refused_count, b.held, b.held_by_customer, b.held_by_operator, b.created_at"
