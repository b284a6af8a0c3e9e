package api

import (
	"errors"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
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
// work is what compute gets for it, at least the size of the body.
func (s submissions) message(c *gin.Context, body []byte, work int64) (m email.Message, sender string, err error) {
	in, err := compute(c, max(work, int64(len(body))), func() (intake.Decoded, error) { return intake.Decode(body, s.limitsOf(c)) })
	if err != nil {
		return email.Message{}, "", err
	}
	m, sender = in.Message, in.SenderPointer
	if domain := m.From.Domain(); !grantOf(c).MaySendFrom(domain) {
		return email.Message{}, "", foreignSender(domain, sender)
	}
	return m, sender, nil
}

// batch reads a request for many messages.
func (s submissions) batch(c *gin.Context, body []byte) (*mailmerge.Batch, error) {
	return compute(c, int64(len(body)), func() (*mailmerge.Batch, error) { return mailmerge.Decode(body, s.limitsOf(c)) })
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

// batchRequest returns a batch that refuses items whose sender the credential may not use.
func batchRequest(c *gin.Context, in *mailmerge.Batch) email.BatchRequest {
	grant := grantOf(c)
	return email.BatchRequest{
		Mode: in.Mode, Len: in.Len(), Message: in.Message, Place: in.Place, Sender: in.Sender,
		Refuse: func(i int, m email.Message) *email.Failure {
			if grant.MaySendFrom(m.From.Domain()) {
				return nil
			}
			return foreignSender(m.From.Domain(), in.Sender(i))
		},
	}
}
