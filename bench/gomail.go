package main

import (
	"context"
	"strings"

	mail "github.com/wneessen/go-mail"
)

// text and html are the bodies of message, for those who do not read JSON.
var (
	text = strings.Repeat("Thank you for your order. We have packed it with care and it leaves our warehouse this afternoon. ", 5)
	html = "<html><body><h1>Thank you</h1><p>" + text + "</p></body></html>"
)

func mailer(port int) (*mail.Client, error) {
	return mail.NewClient("127.0.0.1", mail.WithPort(port), mail.WithTLSPolicy(mail.NoTLS), mail.WithHELO("bench.test"))
}

func compose(to, subject, text, html string) (*mail.Msg, error) {
	m := mail.NewMsg()
	if err := m.From("shop@acme.test"); err != nil {
		return nil, err
	}
	if err := m.To(to); err != nil {
		return nil, err
	}
	m.Subject(subject)
	m.SetBodyString(mail.TypeTextPlain, text)
	m.AddAlternativeString(mail.TypeTextHTML, html)
	return m, nil
}

// sendRaw sends n mails with go-mail alone from so many goroutines, dialling for
// each mail or once.
func sendRaw(ctx context.Context, port, n, goroutines int, reuse bool) error {
	type conn struct{ c *mail.Client }
	conns := make(chan conn, goroutines)
	for range goroutines {
		c, err := mailer(port)
		if err != nil {
			return err
		}
		if reuse {
			if err := c.DialWithContext(ctx); err != nil {
				return err
			}
			defer c.Close()
		}
		conns <- conn{c}
	}
	return together(ctx, n, goroutines, func(ctx context.Context) error {
		m, err := compose("customer@example.test", "Your order", text, html)
		if err != nil {
			return err
		}
		x := <-conns
		defer func() { conns <- x }()
		if reuse {
			return x.c.Send(m)
		}
		return x.c.DialAndSendWithContext(ctx, m)
	})
}
