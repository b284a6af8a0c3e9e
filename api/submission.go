package api

import (
	"errors"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/mailmerge"
)

// submissions reads messages and batches from the bodies of requests.
type submissions struct {
	limits intake.Limits
	// checkURL returns an error for a callback URL that webhooks may not call.
	checkURL func(string) error
	now      func() time.Time
}

// body reads the body of a request and reserves times its size, see readBody.
func (s submissions) body(c *gin.Context, times int64) ([]byte, error) {
	return readBody(c, MaxBody(s.limits.MaxMessageBytes), times)
}

// MaxBody returns the limit of a request body, in bytes, for messages of at most messageBytes:
// base64 makes four bytes of three, and 1 MiB is for the rest of the JSON.
func MaxBody(messageBytes int64) int64 { return messageBytes*14/10 + 1<<20 }

// message decodes a message and checks that the credential may send from its sender's domain.
// sender is the JSON Pointer of the sender in the request.
// work is what compute gets for it, at least the size of the body. A text that is made of the HTML
// is reserved times-1 times: readBody has reserved times the body, which does not hold it.
func (s submissions) message(c *gin.Context, body []byte, work, times int64) (m email.Message, sender string, err error) {
	var made int64 // reserved for the text
	decode := func() (in intake.Decoded, err error) {
		if in, err = intake.Decode(body, s.limitsOf(c)); err != nil || !in.TextFromHTML {
			return in, err
		}
		// The message is not kept in memory that it has not reserved.
		n := (times - 1) * int64(len(in.Text))
		if n > made && !tryReserve(c, budgetOf(c).work, n-made) {
			return intake.Decoded{}, textNotReserved{n - made}
		}
		return in, nil
	}
	in, err := compute(c, max(work, int64(len(body))), decode)
	if short, is := errors.AsType[textNotReserved](err); is {
		// The request first releases its reservation: requests that hold all, and wait for more,
		// would wait for each other. The part bodies has the body, unless it is large.
		held, kept := times*int64(len(body)), int64(0)
		if len(body) > maxInMemory {
			kept = int64(len(body))
		}
		shrink(c, budgetOf(c).work, kept)
		if err := reserve(c, budgetOf(c).work, held-kept+short.bytes); err != nil {
			return email.Message{}, "", err
		}
		made = short.bytes
		in, err = compute(c, max(work, int64(len(body))), decode)
	}
	if err != nil {
		return email.Message{}, "", err
	}
	m, sender = in.Message, in.SenderPointer
	if domain := m.From.Domain(); !grantOf(c).MaySendFrom(domain) {
		return email.Message{}, "", foreignSender(domain, sender)
	}
	if f := mayIgnoreSuppressions(c, m, ""); f != nil {
		return email.Message{}, "", f
	}
	return m, sender, nil
}

// textNotReserved is the error of decoding a message whose text needs bytes more of memory than are
// free now.
type textNotReserved struct{ bytes int64 }

func (e textNotReserved) Error() string {
	return fmt.Sprintf("the text made of the HTML needs %d bytes of memory", e.bytes)
}

// batch reads a request for many messages.
func (s submissions) batch(c *gin.Context, body []byte) (*mailmerge.Batch, error) {
	work := int64(len(body))
	if work > smallWork {
		work = max(work, batchWork)
	}
	return compute(c, work, func() (*mailmerge.Batch, error) { return mailmerge.Decode(body, s.limitsOf(c)) })
}

// limitsOf returns the limits of a request's messages, with the time and its customer.
func (s submissions) limitsOf(c *gin.Context) intake.Limits {
	limits := s.limits
	limits.Now, limits.CustomerID, limits.CheckURL, limits.IgnoreUnknown = s.now(), customerOf(c).ID, s.checkURL, voipbin(c)
	if src := customerOf(c).DefaultSource; src != nil {
		limits.DefaultSource = &email.Address{Email: src.Email, Name: src.Name}
	}
	return limits
}

// foreignSender refuses a sender whose domain is not among those of the credential.
func foreignSender(domain, pointer string) *email.Failure {
	f := email.Fail(email.CodeForbidden, "this access key may not send from %s", domain)
	f.Fields = []email.FieldError{{Pointer: pointer, Code: "forbidden", Detail: "use an address of a domain that the key is for"}}
	return f
}

// mayIgnoreSuppressions refuses a message that ignores suppressions, unless the credential may do so.
// pointer is that of the message in the request. It returns nil for all others.
func mayIgnoreSuppressions(c *gin.Context, m email.Message, pointer string) *email.Failure {
	if !m.IgnoreSuppressions || grantOf(c).May(account.ScopeIgnoreSuppressions) {
		return nil
	}
	f := lacks(account.ScopeIgnoreSuppressions)
	f.Fields = []email.FieldError{{Pointer: pointer + "/ignore_suppressions", Code: "forbidden", Detail: "leave it out, or use a key with the scope suppressions:ignore"}}
	return f
}

// atSender adds the pointer of the sender to an error that refuses the sender's domain.
func atSender(err error, sender string) error {
	if f, ok := errors.AsType[*email.Failure](err); ok && f.Code == email.CodeDomainUnverified {
		f.Fields = []email.FieldError{{Pointer: sender, Code: string(f.Code), Detail: "use an address of a verified domain"}}
	}
	return err
}

// idempotencyKey reads the Idempotency-Key header, empty if there is none.
func idempotencyKey(c *gin.Context) (string, error) {
	keys := c.Request.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	if len(keys) > 1 || !email.ValidIdempotencyKey(keys[0]) {
		return "", invalid("Idempotency-Key", "invalid", "give one key of 1 to 256 printable ASCII characters")
	}
	return keys[0], nil
}

// batchRequest returns a batch that refuses items whose sender the credential may not use, and those that
// ignore suppressions unless it may do so.
func batchRequest(c *gin.Context, in *mailmerge.Batch) email.BatchRequest {
	grant := grantOf(c)
	return email.BatchRequest{
		Mode: in.Mode, Len: in.Len(), Message: in.Message, Place: in.Place, Sender: in.Sender,
		Refuse: func(i int, m email.Message) *email.Failure {
			if !grant.MaySendFrom(m.From.Domain()) {
				return foreignSender(m.From.Domain(), in.Sender(i))
			}
			return mayIgnoreSuppressions(c, m, in.Place(i))
		},
	}
}
