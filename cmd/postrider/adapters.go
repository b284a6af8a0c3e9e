package main

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/render"
	"github.com/postrider/postrider/internal/senderdomain"
	"github.com/postrider/postrider/internal/unsubscribe"
)

// relaySessions adapts relay.Relays to activities.Relays: in Go, a method that returns
// *relay.Session does not implement one that returns the interface activities.Session.
type relaySessions struct{ *relay.Relays }

func (r relaySessions) Session(ctx context.Context, route delivery.Route) (activities.Session, error) {
	s, err := r.Relays.Session(ctx, route)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (r relaySessions) Fitting(ctx context.Context, route delivery.Route, s activities.Session, env delivery.Envelope, message []byte) (activities.Session, error) {
	session, ok := s.(*relay.Session)
	if !ok {
		return s, nil
	}
	fitting, err := r.Relays.Fitting(ctx, route, session, env, message)
	if err != nil {
		return nil, err
	}
	return fitting, nil
}

// noLookup is a DNS without servers.
type noLookup struct{ reason string }

func (l noLookup) Lookup(_ context.Context, name string, typ dnslookup.Type) dnslookup.Answer {
	return dnslookup.Answer{Name: name, Type: typ, Outcome: dnslookup.TemporaryFailure, Reason: l.reason}
}

func (l noLookup) LookupAll(ctx context.Context, name string, typ dnslookup.Type) []dnslookup.Answer {
	return []dnslookup.Answer{l.Lookup(ctx, name, typ)}
}

func recipientRates(rs []config.RecipientRate) delivery.Rates {
	out := delivery.Rates{}
	for _, r := range rs {
		out[r.Domain] = r.Pace
	}
	return out
}

func relaySources(relays []relay.Relay) []senderdomain.RelaySource {
	out := make([]senderdomain.RelaySource, len(relays))
	for i, r := range relays {
		out[i] = senderdomain.RelaySource{Name: r.Name, SendsFrom: r.SendsFrom, Domains: r.Domains}
		for _, s := range r.Streams {
			out[i].Streams = append(out[i].Streams, string(s))
		}
	}
	return out
}

func renderMessage(m email.Message, s delivery.Settled) ([]byte, error) {
	c := composition(m, s.EmailID, s.Date)
	if s.Token != "" {
		c.Reference = s.EmailID + "." + s.Token
	}
	c.UnsubscribeURL, c.FeedbackID = s.UnsubscribeURL, s.FeedbackID
	return render.Render(m, c)
}

// previewMessage renders messages whose links have a base.
func previewMessage(linkBase string) api.Renderer {
	return func(m email.Message, emailID string, date time.Time, maxContent int) (api.Rendering, error) {
		c := composition(m, emailID, date)
		if m.Unsubscribe {
			c.UnsubscribeURL, c.FeedbackID = unsubscribe.Preview.URL(linkBase, emailID), unsubscribe.Preview.FeedbackID(m.Topic, string(m.Stream), uuid.Nil.String())
		}
		p, err := render.MakePreview(m, c, maxContent)
		return api.Rendering(p), err
	}
}

// linkBase is where the links in messages lead: the public address of the API, or nowhere if recipients
// cannot reach it. In dev, where mail arrives in the built-in inbox, it may be on this machine.
func linkBase(cfg config.Config) string {
	base := cfg.PublicURL
	if cfg.Dev && base == "" {
		base = localURL("http", cfg.Listen)
	}
	if !unsubscribe.IsBase(base, cfg.Dev || cfg.AllowPublishedSecrets) {
		return ""
	}
	return base
}

func composition(m email.Message, emailID string, date time.Time) render.Composition {
	return render.Composition{EmailID: emailID, MessageID: email.MessageID(emailID, m.From.Domain()), Date: date}
}
