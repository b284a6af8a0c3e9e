package api

import (
	"errors"

	"github.com/gin-gonic/gin"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// MaxBody is how large the request of a message may be of so many bytes: base64 makes four
// bytes of three, and JSON needs a little room.
func MaxBody(messageBytes int64) int64 { return messageBytes*14/10 + 1<<20 }

// outgoing reads a message that the credential may send, and where the request
// names its sender.
func (s *Server) outgoing(c *gin.Context, body []byte) (m email.Message, sender string, err error) {
	in, err := intake.Decode(body, s.limits(c))
	if err != nil {
		return email.Message{}, "", err
	}
	m, sender = in.Message, in.SenderPointer
	if domain := m.From.Domain(); !grantOf(c).MaySendFrom(domain) {
		return email.Message{}, "", foreignSender(domain, sender)
	}
	return m, sender, nil
}

// limits are those of a request's messages.
func (s *Server) limits(c *gin.Context) intake.Limits {
	limits := s.opts.Limits
	limits.Now, limits.CustomerID, limits.CheckURL, limits.IgnoreUnknown = s.opts.Now(), customerOf(c).ID, s.deps.CheckURL, voipbin(c)
	if src := customerOf(c).DefaultSource; src != nil {
		limits.DefaultSource = &email.Address{Email: src.Email, Name: src.Name}
	}
	return limits
}

// foreignSender refuses a sender that the credential is not for.
func foreignSender(domain, pointer string) *email.Failure {
	f := email.Fail(email.CodeForbidden, "this access key may not send from %s", domain)
	f.Fields = []email.FieldError{{Pointer: pointer, Code: "forbidden", Detail: "use an address of a domain that the key is for"}}
	return f
}

// atSender points at the sender where its domain is what was refused.
func atSender(err error, sender string) error {
	if f, ok := errors.AsType[*email.Failure](err); ok && f.Code == email.CodeDomainUnverified {
		f.Fields = []email.FieldError{{Pointer: sender, Code: string(f.Code), Detail: "use an address of a verified domain"}}
	}
	return err
}
