package main

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/internal/dkim"
)

// signedBy are the ways in which messages are signed, by the algorithms.
var signedBy = []struct {
	id, title  string
	algorithms []dkim.Algorithm
}{
	{"rsa", "RSA-2048", []dkim.Algorithm{dkim.RSA}},
	{"ed25519", "Ed25519", []dkim.Algorithm{dkim.Ed25519}},
	{"both", "both", []dkim.Algorithm{dkim.RSA, dkim.Ed25519}},
}

// addSignatures measures signing alone.
func (p *plan) addSignatures() error {
	keys := map[dkim.Algorithm]dkim.Key{}
	for _, a := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		private, err := dkim.GenerateKey(a)
		if err != nil {
			return err
		}
		keys[a] = dkim.Key{Domain: "acme.test", Selector: "pr1" + string(a[:1]), Private: private}
	}
	for _, by := range signedBy {
		var with []dkim.Key
		for _, a := range by.algorithms {
			with = append(with, keys[a])
		}
		p.add(contender{id: "sign-" + by.id, title: "DKIM alone: sign a message of 4 kB, " + by.title, run: func(context.Context) (sample, error) {
			return timed(p.st.mails, func() error { return signAll(p.st.mails, with) })
		}})
	}
	return nil
}

// signedDeployment is one whose domain has keys; nil if no row needs it.
type signedDeployment struct{ *deployment }

func (p *plan) deploySigned(ctx context.Context) (*signedDeployment, error) {
	if !p.wanted("one-both", "batch-rsa", "batch-ed25519", "batch-both") {
		return nil, nil
	}
	d, err := p.st.deploy(ctx, p.st.dev, "signed", 0, inOne)
	return &signedDeployment{d}, err
}

// addOne measures single mails with both signatures.
func (s *signedDeployment) addOne(p *plan) {
	if s == nil {
		return
	}
	both := signedBy[len(signedBy)-1]
	p.add(contender{id: "one-both", title: "the same, signed with " + both.title, run: s.with(both.algorithms, s.round)})
}

// addBatches measures batches of different messages with each kind of signature.
func (s *signedDeployment) addBatches(p *plan) {
	if s == nil {
		return
	}
	for _, by := range signedBy {
		p.add(contender{id: "batch-" + by.id, title: "the same, signed with " + by.title, run: s.with(by.algorithms, s.batchRound)})
	}
}

// with runs a round in which the domain signs with some algorithms.
func (s *signedDeployment) with(algorithms []dkim.Algorithm, round func(context.Context) (sample, error)) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		if err := s.signWith(ctx, algorithms); err != nil {
			return sample{}, err
		}
		return round(ctx)
	}
}

// signWith has the deployment's domain sign with these algorithms.
func (d *deployment) signWith(ctx context.Context, algorithms []dkim.Algorithm) error {
	names := make([]string, len(algorithms))
	for i, a := range algorithms {
		names[i] = string(a)
	}
	changed, err := d.pool.Exec(ctx, "UPDATE dkim_keys SET state = CASE WHEN algorithm = ANY ($1) THEN 'active' ELSE 'pending' END", names)
	if err == nil && changed.RowsAffected() != 2 {
		err = fmt.Errorf("the domain has %d keys, need 2", changed.RowsAffected())
	}
	return err
}

// signAll signs n messages one after the other.
func signAll(n int, keys []dkim.Key) error {
	message := []byte("From: Shop <shop@acme.test>\r\nTo: A Customer <customer1@example.test>\r\nDate: Mon, 30 Nov 2026 12:00:00 +0000\r\n" +
		"Message-ID: <1@acme.test>\r\nSubject: Your order 1\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n")
	for len(message) < 4<<10 {
		message = append(message, "A line of a newsletter, with  some <b>HTML</b> in it, as long as most.\r\n"...)
	}
	for range n {
		if _, err := dkim.Sign(message, keys, time.Unix(1_800_000_000, 0)); err != nil {
			return err
		}
	}
	return nil
}
