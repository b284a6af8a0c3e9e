package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
)

// reachFlags select the e-mails of a command.
type reachFlags struct{ customer, domain, batch, email string }

// reach reads the flags. whose describes the selected e-mails for the output.
func (f reachFlags) reach(ctx context.Context, s *db.DB) (r delivery.Reach, whose string, err error) {
	if f.customer == "" && f.domain == "" && f.batch == "" && f.email == "" {
		return r, "", errors.New("say which mail: --customer, --domain, both, --batch, or --email")
	}
	if f.email != "" {
		if _, err := uuid.Parse(f.email); err != nil {
			return r, "", errors.New("--email is the id of an e-mail")
		}
		r.EmailID, whose = f.email, " "+f.email
	}
	if f.batch != "" {
		if _, err := uuid.Parse(f.batch); err != nil {
			return r, "", errors.New("--batch is the id of a batch")
		}
		r.BatchID = f.batch
		whose += " of batch " + f.batch
	}
	if f.domain != "" {
		if r.RecipientDomain, err = intake.Domain(f.domain); err != nil {
			return r, "", err
		}
		whose += " to " + r.RecipientDomain
	}
	if f.customer != "" {
		c, err := findCustomer(ctx, s, f.customer)
		if err != nil {
			return r, "", err
		}
		r.CustomerID = c.ID
		whose += fmt.Sprintf(" of customer %s (%s)", plaintext.Printable(c.Name), c.ID)
	}
	return r, whose, nil
}

const reachHelp = `The command reaches all mail that is not finished and was accepted before it began: alone
or in a batch, attempted or not, with a run in Temporal or without. --domain is a domain of
recipients; an e-mail to several domains is changed as a whole. With several flags, an
e-mail has to match all of them. An attempt that is under way is not interrupted.

The command changes 250 e-mails in one transaction. If it is stopped, run it again: it
continues. Temporal need not be running. To stop mail that is accepted later too, use pause.`

func reachCommand(action email.Action, short, long, done string) *cobra.Command {
	var f reachFlags
	cmd := &cobra.Command{
		Use: string(action), Short: short, Args: cobra.NoArgs, Long: long + "\n\n" + reachHelp,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				reach, whose, err := f.reach(ctx, s)
				if err != nil {
					return err
				}
				n, err := s.Mail.ControlAll(ctx, reach, action, nil)
				if n.Changed > 0 || err == nil {
					fmt.Fprintf(out, "%s %s%s\n", emails(n.Changed), done, whose)
				}
				if n.Kept > 0 {
					fmt.Fprintf(out, "%s left: their whole batch is held; resume it with --batch or --customer alone\n", emails(n.Kept))
				}
				if err != nil {
					return fmt.Errorf("not all was done, run it again: %w", err)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&f.customer, "customer", "", "mail of this customer, by id, or by name if no other customer has it")
	cmd.Flags().StringVar(&f.domain, "domain", "", "mail to this domain")
	cmd.Flags().StringVar(&f.batch, "batch", "", "mail of one batch, by id")
	cmd.Flags().StringVar(&f.email, "email", "", "one e-mail, by id")
	return cmd
}

func emails(n int) string { return plaintext.Count(n, "e-mail", "e-mails") }

func holdCommand() *cobra.Command {
	return reachCommand(email.ActionHold, "Hold mail of a customer, to a domain or of a batch: no attempt begins until resume",
		`The hold is the operator's: only resume, or an operator's signal, ends it. A customer's
hold of the same mail is not changed, and only the customer can end it.`, "held")
}

func resumeCommand() *cobra.Command {
	return reachCommand(email.ActionResume, "End an operator's hold of mail of a customer, to a domain or of a batch",
		`Mail that its customer holds too, or that a pause covers, still waits.`, "resumed")
}

func cancelCommand() *cobra.Command {
	return reachCommand(email.ActionCancel, "Cancel unsent mail of a customer, to a domain or of a batch; it cannot be undone",
		`Recipients whose servers have accepted the mail stay delivered.`, "canceled")
}
