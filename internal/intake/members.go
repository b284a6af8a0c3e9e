package intake

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
)

// maxMembers bounds the members of any array or object of a request, before it is decoded: the
// decoded form of a member of three bytes takes up to fifty times as much memory. Each kind of
// member has a lower limit of its own, with a clearer error. The list of a batch has a higher
// one.
const maxMembers = 1000

// maxListed bounds the list of a batch, messages or recipients.
const maxListed = 2 * email.MaxBatchRecipients

// maxRecipientMembers bounds an array or object of one recipient of a batch. It is twice the
// limit of variables, so that a few too many refuse that recipient only, not the batch.
const maxRecipientMembers = 100

// maxTokens bounds the JSON tokens of a request: the work grows with them. A batch of 10,000
// recipients with 50 variables each has 1.1 million.
const maxTokens = 2_000_000

// maxSmallMembers bounds the members of any array or object of a request that is not a message.
// The longest list is a warm-up plan of 366 days.
const maxSmallMembers = 400

// CheckMembers applies the bounds of messages and batches, before a body is decoded. Its error
// is an *email.Failure. It ignores all other errors of the body, which decoding finds.
func CheckMembers(body []byte, l Limits) error {
	return boundMembers(body, max(maxMembers, int64(l.MaxRecipients)), maxListed)
}

// boundMembers refuses a body in which an array or object has more than most members, or the
// list of a batch more than listed. It ignores all other errors of the body. The decoder reads
// from a bytes.Buffer, which it does not copy.
func boundMembers(body []byte, most, listed int64) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	// limits are the limits of the open arrays and objects, outermost first.
	var limits []int64
	name := "" // of the last member of the request itself
	for tokens := 0; ; tokens++ {
		if tokens == maxTokens {
			return Refused("", CodeTooMany, fmt.Sprintf("there are more than %d names and values: send several requests", maxTokens))
		}
		t, err := d.ReadToken()
		if err != nil {
			return nil // the end, or an error that decoding will find
		}
		depth := d.StackDepth() // of the array or object that has t as a member
		switch t.Kind() {
		case '}', ']':
			limits = limits[:len(limits)-1]
			continue
		case '{', '[':
			limit := most
			if len(limits) == 1 && t.Kind() == '[' && (name == "messages" || name == "recipients") {
				limit = listed
			} else if len(limits) > 2 && name == "recipients" {
				limit = min(limit, maxRecipientMembers)
			}
			limits = append(limits, limit)
			depth--
		}
		if depth == 0 {
			continue // the request itself
		}
		kind, n := d.StackIndex(depth)
		if kind == '{' {
			if depth == 1 && n%2 == 1 { // t is a name, not its value
				name = t.String()
			}
			n /= 2
		}
		if n > limits[depth-1] {
			return Refused(d.StackPointer().Parent(), CodeTooMany, fmt.Sprintf("there are more than %d", limits[depth-1]))
		}
	}
}
