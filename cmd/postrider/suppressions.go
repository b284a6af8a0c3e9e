package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/suppression"
)

func suppressionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "suppression", Short: "Manage suppression lists: the addresses to which a customer sends nothing"}
	cmd.AddCommand(suppressionAddCommand(), suppressionListCommand(), suppressionCheckCommand(), suppressionRemoveCommand(), suppressionImportCommand(), suppressionExportCommand())
	return cmd
}

// suppressionRules check entries that an operator gives.
func suppressionRules(reasons []suppression.Reason) suppression.Rules {
	return suppression.Rules{
		Address: func(a string) (string, error) {
			spec, err := intake.Address(a, "")
			return spec.Email, err
		},
		Domain: intake.Domain, Reasons: reasons, Now: time.Now(),
	}
}

// entryProblems makes an error of what is wrong with an entry. Members are flags, except the address.
func entryProblems(problems []suppression.Problem) error {
	var errs []error
	for _, p := range problems {
		name := "--" + strings.TrimSuffix(p.Member, "_at")
		if p.Member == "address" {
			name = "the address"
		}
		errs = append(errs, fmt.Errorf("%s: %s", name, p.Detail))
	}
	return errors.Join(errs...)
}

func suppressionAddCommand() *cobra.Command {
	var d suppression.Draft
	var expires string
	cmd := ofCustomer("add ADDRESS --customer CUSTOMER", "Add an address, or *@example.com, to a customer's suppression list; one that is there is changed", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			d.Address = args[0]
			if expires != "" {
				at, err := time.Parse(time.RFC3339, expires)
				if err != nil {
					return errors.New("--expires: give a time in RFC 3339 format, as 2027-01-02T15:04:05Z")
				}
				d.ExpiresAt = at.UTC().Truncate(time.Microsecond)
			}
			e, problems := suppressionRules(suppression.Given()).Entry(d)
			if len(problems) > 0 {
				return entryProblems(problems)
			}
			e.Source = suppression.FromCustomer
			e, created, err := s.Suppressions.AddSuppression(ctx, c.ID, e)
			if err != nil {
				return err
			}
			done := "changed"
			if created {
				done = "added"
			}
			fmt.Fprintf(out, "%s %s: %s, %s\n", orErased(e), done, coverage(e), e.Reason)
			return nil
		})
	cmd.Flags().StringVar(&d.Scope, "scope", "", "what it covers: all, stream or topic; by default what follows from --stream, --topic and --reason")
	cmd.Flags().StringVar(&d.Stream, "stream", "", "cover this stream alone: transactional or broadcast")
	cmd.Flags().StringVar(&d.Topic, "topic", "", "cover this topic alone")
	cmd.Flags().StringVar(&d.Reason, "reason", "", "manual (the default), hard_bounce, complaint or unsubscribe")
	cmd.Flags().StringVar(&d.Note, "note", "", "a remark")
	cmd.Flags().StringVar(&expires, "expires", "", "when it ends, as 2027-01-02T15:04:05Z; by default never")
	return cmd
}

// orErased is the address of an entry.
func orErased(e suppression.Entry) string {
	if e.Address == "" {
		return "(erased)"
	}
	return e.Address
}

// coverage says which mail an entry covers.
func coverage(e suppression.Entry) string {
	if e.Scope == suppression.ScopeAll {
		return "all mail"
	}
	return string(e.Scope) + " " + e.Target
}

const suppressionHeading = "ADDRESS\tCOVERS\tREASON\tSOURCE\tADDED\tEXPIRES\tNOTE\tID"

func suppressionFields(e suppression.Entry) []string {
	return []string{orErased(e), coverage(e), string(e.Reason), string(e.Source), when(e.CreatedAt), when(e.ExpiresAt), orDash(plaintext.Printable(e.Note)), e.ID}
}

func suppressionListCommand() *cobra.Command {
	var reason string
	var most int
	cmd := ofCustomer("list --customer CUSTOMER [--reason REASON]", "List a customer's suppression list, newest first", cobra.NoArgs,
		func(ctx context.Context, s *db.DB, c account.Customer, _ []string, out io.Writer) error {
			var rows [][]string
			for next := (&email.Cursor{}); next != nil && len(rows) < most; {
				var page []suppression.Entry
				var err error
				page, next, err = s.Suppressions.ListSuppressions(ctx, c.ID, suppression.Filter{Reason: suppression.Reason(reason)}, *next, min(listPage, most-len(rows)))
				if err != nil {
					return err
				}
				for _, e := range page {
					rows = append(rows, suppressionFields(e))
				}
			}
			return table(out, suppressionHeading, rows)
		})
	cmd.Flags().StringVar(&reason, "reason", "", "those with this reason: hard_bounce, soft_bounces, complaint, unsubscribe or manual")
	cmd.PreRunE = func(*cobra.Command, []string) error { return oneOf("--reason", reason, suppression.Reasons()) }
	cmd.Flags().IntVar(&most, "max", 1000, "how many to print; the command export writes all")
	return cmd
}

func suppressionCheckCommand() *cobra.Command {
	var stream, topic string
	cmd := ofCustomer("check ADDRESS... --customer CUSTOMER", "Say whether mail to addresses is suppressed, and by which entries", cobra.MinimumNArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			addresses := make([]string, len(args))
			for i, a := range args {
				spec, err := intake.Address(a, "")
				if err != nil {
					return fmt.Errorf("%s: %w", plaintext.Printable(a), err)
				}
				addresses[i] = spec.Email
			}
			found, err := s.Suppressions.CheckSuppressions(ctx, c.ID, addresses)
			if err != nil {
				return err
			}
			for i, entries := range found {
				says := "may be sent to"
				var rows [][]string
				for _, e := range entries {
					if e.Covers(email.Stream(stream), topic) {
						says = "is suppressed"
					}
					rows = append(rows, suppressionFields(e))
				}
				fmt.Fprintf(out, "%s %s\n", addresses[i], says)
				if len(rows) > 0 {
					if err := table(out, suppressionHeading, rows); err != nil {
						return err
					}
				}
			}
			return nil
		})
	cmd.PreRunE = func(*cobra.Command, []string) error { return oneOf("--stream", stream, suppression.Streams()) }
	cmd.Flags().StringVar(&stream, "stream", string(email.StreamTransactional), "the stream of the mail")
	cmd.Flags().StringVar(&topic, "topic", "", "the topic of the mail")
	return cmd
}

func suppressionRemoveCommand() *cobra.Command {
	cmd := ofCustomer("remove ADDRESS|ID --customer CUSTOMER", "Take an address with all of its entries, or one entry, off a customer's suppression list", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			ids, err := suppressionIDs(ctx, s, c.ID, args[0])
			if err != nil {
				return err
			}
			for _, id := range ids {
				e, emails, err := s.Suppressions.DeleteSuppression(ctx, c.ID, id)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s removed: %s, %s; it has ended recipients of %d e-mails in the last 30 days\n", orErased(e), coverage(e), e.Reason, emails)
			}
			return nil
		})
	cmd.Aliases = []string{"delete"}
	return cmd
}

// suppressionIDs are the ids of the entries that an argument names.
func suppressionIDs(ctx context.Context, s *db.DB, customerID, addressOrID string) (ids []string, err error) {
	if id, err := uuid.Parse(addressOrID); err == nil {
		return []string{id.String()}, nil
	}
	address, problem := suppressionRules(nil).NormalAddress(addressOrID)
	if problem != nil {
		return nil, fmt.Errorf("the address: %s", problem.Detail)
	}
	entries, err := all(func(after email.Cursor, limit int) ([]suppression.Entry, *email.Cursor, error) {
		return s.Suppressions.ListSuppressions(ctx, customerID, suppression.Filter{Address: address}, after, limit)
	})
	for _, e := range entries {
		ids = append(ids, e.ID)
	}
	if err == nil && len(ids) == 0 {
		err = errors.New("the list has no entry for this address; one for its domain may cover it: postrider suppression check")
	}
	return ids, err
}

func suppressionImportCommand() *cobra.Command {
	var format, reason string
	cmd := ofCustomer("import FILE --customer CUSTOMER", "Import a CSV file, - for standard input: our own, or one of SendGrid, Mailgun, Postmark or SES, or a list of addresses", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) (err error) {
			in := suppression.Import{Rules: suppressionRules(suppression.Reasons()), Format: suppression.Format(format), Reason: suppression.Reason(reason),
				Put: func(ctx context.Context, lot suppression.Lot) (suppression.Counts, error) {
					return s.Suppressions.StoreLot(ctx, c.ID, lot)
				}}
			file := os.Stdin
			if args[0] != "-" {
				if file, err = os.Open(args[0]); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, file.Close()) }()
			}
			r, err := in.Read(ctx, file)
			if r.Read > 0 {
				err = errors.Join(err, s.Suppressions.AuditImport(context.WithoutCancel(ctx), c.ID, r))
				fmt.Fprintf(out, "%s: %d read, %d added, %d changed, %d unchanged, %d refused\n", r.Format, r.Read, r.Added, r.Changed, r.Unchanged, r.Refused)
			}
			for _, p := range r.Problems {
				fmt.Fprintf(out, "line %d: %s: %s\n", p.Line, orDash(plaintext.Printable(p.Column)), p.Detail)
			}
			return err
		})
	cmd.Flags().StringVar(&format, "format", "", "what the file is, if its first line does not tell: postrider, sendgrid, mailgun, postmark, ses or list")
	cmd.Flags().StringVar(&reason, "reason", "", "the reason of all entries, if the file does not tell it: hard_bounce, complaint, unsubscribe or manual")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if err := oneOf("--format", format, suppression.Formats()); err != nil {
			return err
		}
		return oneOf("--reason", reason, suppression.Reasons())
	}
	return cmd
}

// oneOf refuses a flag that is set to none of some words.
func oneOf[S ~string](flag, value string, words []S) error {
	for _, w := range words {
		if value == "" || value == string(w) {
			return nil
		}
	}
	return fmt.Errorf("%s: give %s", flag, suppression.OneOf(words))
}

func suppressionExportCommand() *cobra.Command {
	return ofCustomer("export --customer CUSTOMER", "Write a customer's suppression list to standard output, as a CSV file that import reads", cobra.NoArgs,
		func(ctx context.Context, s *db.DB, c account.Customer, _ []string, out io.Writer) error {
			file, err := suppression.NewExport(out, true)
			for next := (&email.Cursor{}); err == nil && next != nil; {
				var entries []suppression.Entry
				if entries, next, err = s.Suppressions.ExportSuppressions(ctx, c.ID, *next, suppression.ExportLot); err == nil {
					err = file.Write(entries)
				}
			}
			return err
		})
}
