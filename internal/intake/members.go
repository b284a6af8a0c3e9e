package intake

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/postrider/postrider/email"
)

// maxMembers bounds the members of any array or object of a request, before it is decoded:
// what decoding makes of a member of three bytes takes up to fifty times as much memory.
// Each kind of member has a lower limit of its own, which says what it is about; those of a
// batch's list may be more.
const maxMembers = 1000

// maxListed bounds the list of a batch, messages or recipients.
const maxListed = 2 * email.MaxBatchRecipients

// maxRecipientMembers bounds an array or object of one recipient of a batch. It may give half as
// many variables; a few more are refused for that recipient alone.
const maxRecipientMembers = 100

// maxTokens bounds the names and values of a request, and the ends of its arrays and objects, in
// all: work goes by them. A batch of 10,000 recipients with 50 variables each has 1.1 million.
const maxTokens = 2_000_000

// maxSmallMembers bounds the members of any array or object of a request that is no message. The longest list is the plan
// of a warm-up, which has a day more than a year.
const maxSmallMembers = 400

// CheckMembers applies the bounds of messages and batches, before a body is decoded. The error is
// an *email.Failure; what else is wrong with the body is for decoding to say.
func CheckMembers(body []byte, l Limits) error {
	return boundMembers(body, max(maxMembers, int64(l.MaxRecipients)), maxListed)
}

// boundMembers refuses a body of which an array or object has more than so many, or a
// batch's list more than listed. What else is wrong with the body is not its business. It
// reads a buffer, which the decoder does not copy.
func boundMembers(body []byte, most, listed int64) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	// limits are those of the arrays and objects that are open.
	var limits []int64
	name := "" // of the last member of the request itself
	for tokens := 0; ; tokens++ {
		if tokens == maxTokens {
			return Refused("", CodeTooMany, fmt.Sprintf("there are more than %d names and values: send several requests", maxTokens))
		}
		t, err := d.ReadToken()
		if err != nil {
			return nil // the end, or what decoding will refuse
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
