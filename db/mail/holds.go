package mail

import "github.com/postrider/postrider/email"

// holds says whether an e-mail or a batch is held, and by whom. Both may hold it. Held without a
// holder is a hold of an earlier version: customer and operator may both lift it. Without Held the
// others mean nothing.
type holds struct {
	Held           bool `bun:"held"`
	HeldByCustomer bool `bun:"held_by_customer"`
	HeldByOperator bool `bun:"held_by_operator"`
}

// hold begins a holder's hold. It reports whether there was none.
func (h *holds) hold(by email.Holder) bool {
	if !h.Held {
		*h = holds{}
	}
	own := h.of(by)
	if *own {
		return false
	}
	h.Held, *own = true, true
	return true
}

// lift ends a holder's hold. It reports whether there was one; another's stays.
func (h *holds) lift(by email.Holder) bool {
	own := h.of(by)
	if !h.Held || !*own && (h.HeldByCustomer || h.HeldByOperator) {
		return false
	}
	*own = false
	h.Held = h.HeldByCustomer || h.HeldByOperator
	return true
}

func (h *holds) of(by email.Holder) *bool {
	if by == email.HolderOperator {
		return &h.HeldByOperator
	}
	return &h.HeldByCustomer
}

// mine reports whether a holder could lift a hold.
func (h *holds) mine(by email.Holder) bool {
	trial := *h
	return trial.lift(by)
}

// operatorMayLift is mine(email.HolderOperator) in SQL.
const operatorMayLift = "held AND (held_by_operator OR NOT held_by_customer)"

// holders are those who keep an e-mail.
func (r *emailRow) holders() (out []email.Holder) {
	if r.Status.Final() {
		return nil
	}
	if r.Held && r.HeldByCustomer {
		out = append(out, email.HolderCustomer)
	}
	if r.Held && r.HeldByOperator {
		out = append(out, email.HolderOperator)
	}
	if r.Paused {
		out = append(out, email.HolderPause)
	}
	return out
}

// othersHold refuses what a hold that is not the asker's keeps.
func othersHold(what string, by email.Holder) *email.Failure {
	if by == email.HolderOperator {
		return email.Fail(email.CodeConflict, "its customer holds the %s: it goes on when the customer resumes it", what)
	}
	return email.Fail(email.CodeConflict, "an operator holds the %s: it goes on when the operator resumes it", what)
}
