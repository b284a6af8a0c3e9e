package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
)

// pauseTarget are the flags that select the paused mail; without a flag, it is all mail.
type pauseTarget struct{ customer, stream, relay, domain string }

func (t *pauseTarget) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.customer, "customer", "", "only this customer's mail, by id, or by name if no other customer has it")
	cmd.Flags().StringVar(&t.stream, "stream", "", "only this stream: transactional or broadcast")
	cmd.Flags().StringVar(&t.relay, "relay", "", "only mail that goes to this relay, by name")
	cmd.Flags().StringVar(&t.domain, "domain", "", "with --customer and --stream: only that customer's mail of the stream from this sender domain")
	cmd.MarkFlagsMutuallyExclusive("customer", "relay")
	cmd.MarkFlagsMutuallyExclusive("stream", "relay")
	cmd.MarkFlagsMutuallyExclusive("domain", "relay")
}

func (t *pauseTarget) pause(ctx context.Context, s *db.DB) (email.Pause, error) {
	switch {
	case t.domain != "":
		return t.domainStream(ctx, s)
	case t.customer != "" && t.stream != "":
		return email.Pause{}, errors.New("--customer and --stream together need --domain: one pause covers a customer, or a stream, or a customer's stream of a domain")
	case t.customer != "":
		c, err := findCustomer(ctx, s, t.customer)
		return email.Pause{Scope: email.PauseCustomer, Key: c.ID}, err
	case t.stream != "":
		p := email.Pause{Scope: email.PauseStream, Key: t.stream}
		if p.Check() != nil {
			return p, errors.New("--stream is transactional or broadcast")
		}
		return p, nil
	case t.relay != "":
		return email.Pause{Scope: email.PauseRelay, Key: t.relay}, nil
	}
	return email.Pause{Scope: email.PauseInstallation}, nil
}

// domainStream is the pause of one stream of a customer's sender domain. The customer need not have
// the domain any more.
func (t *pauseTarget) domainStream(ctx context.Context, s *db.DB) (email.Pause, error) {
	if t.customer == "" || t.stream == "" {
		return email.Pause{}, errors.New("--domain needs --customer and --stream")
	}
	c, err := findCustomer(ctx, s, t.customer)
	if err != nil {
		return email.Pause{}, err
	}
	name, err := intake.Domain(t.domain)
	if err != nil {
		return email.Pause{}, err
	}
	p := email.Pause{Scope: email.PauseDomainStream, Key: email.DomainStreamKey(c.ID, name, email.Stream(t.stream))}
	if p.Check() != nil {
		return p, errors.New("--stream is transactional or broadcast")
	}
	return p, nil
}

func pauseCommand() *cobra.Command {
	var target pauseTarget
	var reason string
	cmd := &cobra.Command{
		Use: "pause", Short: "Stop mail at once: all of it, or a customer's, a stream's, a relay's, or a stream's of one sender domain", Args: cobra.NoArgs,
		Long: `No attempt begins that the pause covers. Attempts under way are not interrupted.
Mail is still accepted, and waits. Nothing is lost, and expires_at still applies.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				p, err := target.pause(ctx, s)
				if err != nil {
					return err
				}
				p.Reason = reason
				if _, err := s.Mail.Pause(ctx, p); err != nil {
					return err
				}
				return listPauses(ctx, s, out)
			})
		},
	}
	target.flags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "the reason, which pauses shows")
	return cmd
}

func unpauseCommand() *cobra.Command {
	var target pauseTarget
	cmd := &cobra.Command{
		Use: "unpause", Short: "End a pause, with the same flags", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				p, err := target.pause(ctx, s)
				if err != nil {
					return err
				}
				if err := s.Mail.Unpause(ctx, p); err != nil {
					return err
				}
				return listPauses(ctx, s, out)
			})
		},
	}
	target.flags(cmd)
	return cmd
}

func pausesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "pauses", Short: "List the pauses, and how many e-mails wait for them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return withStore(cmd, listPauses) },
	}
}

func listPauses(ctx context.Context, s *db.DB, out io.Writer) error {
	ps, waiting, err := s.Mail.Pauses(ctx)
	if err != nil {
		return err
	}
	for _, p := range ps {
		fmt.Fprintf(out, "%-13s %-36s since %s by %s  %s\n", p.Scope, p.Key, p.CreatedAt.Format(time.RFC3339), orDash(p.SetBy), p.Reason)
	}
	if len(ps) == 0 {
		fmt.Fprintln(out, "nothing is paused")
	}
	fmt.Fprintf(out, "%s\n", plaintext.Count(waiting, "e-mail waits", "e-mails wait"))
	return nil
}
