package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
	"github.com/postrider/postrider/internal/senderdomain"
)

func domainCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "domain", Short: "Manage sender domains"}
	cmd.AddCommand(domainAddCommand(), domainListCommand(), domainShowCommand(), domainVerifyCommand(), domainRotateCommand(), domainUnverifyCommand(), domainRemoveCommand(), warmupCommand(), reputationCommand())
	return cmd
}

func domainAddCommand() *cobra.Command {
	var verified bool
	cmd := ofCustomer("add NAME --customer CUSTOMER [--verified]", "Let a customer send from a domain, once its DNS records are found", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			if verified {
				return vouchFor(ctx, s, c, args[0], out)
			}
			name, err := senderdomain.Parse(args[0])
			if err != nil {
				return err
			}
			d, _, err := s.Accounts.CreateDomain(ctx, c.ID, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s\n", d.Name, domainState(d))
			if !d.VerifiedAt.IsZero() {
				return nil
			}
			fmt.Fprintf(out, `
The customer publishes these records. Postrider looks for them by itself.

%s
Without them, for a relay that signs or for a trial, vouch for the domain yourself:

  postrider domain add %s --customer %s --verified
`, zone(d), d.Name, c.ID)
			return nil
		})
	cmd.Flags().BoolVar(&verified, "verified", false, "vouch for it: the domain is the customer's; its DNS records do not matter")
	return cmd
}

func vouchFor(ctx context.Context, s *db.DB, c account.Customer, domain string, out io.Writer) error {
	name, err := intake.Domain(domain)
	if err != nil {
		return err
	}
	d, err := s.Accounts.AddDomain(ctx, c.ID, name, true)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s verified\n", d.Name)
	return nil
}

// domainState says where a domain is in its verification.
func domainState(d senderdomain.Domain) string {
	state := map[senderdomain.DomainStatus]string{
		senderdomain.DomainPending:  "pending: mail from it is refused until its records are found",
		senderdomain.DomainVerified: "verified",
		senderdomain.DomainWarning:  "verified, with a warning: a required record is missing or wrong",
		senderdomain.DomainFailed:   "failed: new mail from it is refused",
	}[d.Status]
	if d.VerifiedBy == senderdomain.VerifiedByOperator {
		state += " by the operator"
	}
	switch d.BlockedBy {
	case senderdomain.BlockedByOperator:
		state += "; an operator has taken it back"
	case senderdomain.BlockedByCustomer:
		state += "; it is verified for another customer"
	}
	return state
}

func domainListCommand() *cobra.Command {
	return ofCustomer("list --customer CUSTOMER", "List a customer's sender domains, newest first", cobra.NoArgs,
		func(ctx context.Context, s *db.DB, c account.Customer, _ []string, out io.Writer) error {
			domains, err := all(func(a email.Cursor, n int) ([]senderdomain.Domain, *email.Cursor, error) {
				return s.Accounts.ListDomains(ctx, c.ID, a, n)
			})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, d := range domains {
				rows = append(rows, []string{d.Name, string(d.Status), orDash(string(d.VerifiedBy)), when(d.VerifiedAt), when(d.CreatedAt)})
			}
			return table(out, "NAME\tSTATUS\tBY\tVERIFIED\tADDED", rows)
		})
}

// ofDomain makes a command whose argument is the name of a customer's domain.
func ofDomain(use, short string, do func(ctx context.Context, s *db.DB, d senderdomain.Domain, out io.Writer) error) *cobra.Command {
	return ofCustomer(use, short, cobra.ExactArgs(1), func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
		name, err := intake.Domain(args[0])
		if err != nil {
			return err
		}
		d, err := s.Accounts.DomainByName(ctx, c.ID, name)
		if err != nil {
			return err
		}
		return do(ctx, s, d, out)
	})
}

func domainShowCommand() *cobra.Command {
	var asZone bool
	cmd := ofDomain("show NAME --customer CUSTOMER [--zone]", "Show a sender domain, its DNS records and its DKIM keys",
		func(ctx context.Context, s *db.DB, d senderdomain.Domain, out io.Writer) error {
			if asZone {
				fmt.Fprint(out, zone(d))
				return nil
			}
			warm, err := s.Accounts.Domain(ctx, d.CustomerID, d.Name)
			if err != nil {
				return err
			}
			err = fields(out, []string{"name", d.Name}, []string{"id", d.ID}, []string{"customer", d.CustomerID}, []string{"status", domainState(d)}, []string{"since", when(d.Since)},
				[]string{"verified", when(d.VerifiedAt)}, []string{"checked", when(d.CheckedAt)}, []string{"next check", nextCheck(d)}, []string{"added", when(d.CreatedAt)}, []string{"warm-up", warm.Warmup.Today()})
			if err != nil {
				return err
			}
			return showRecords(out, d)
		})
	cmd.Flags().BoolVar(&asZone, "zone", false, "print the records as a fragment of a zone file and nothing else")
	return cmd
}

// nextCheck says when the DNS is looked at next.
func nextCheck(d senderdomain.Domain) string {
	switch {
	case d.NextCheckAt.IsZero() && len(d.Keys) == 0:
		return "none, because it has no DKIM keys: postrider domain verify makes some"
	case d.NextCheckAt.IsZero():
		return "none: postrider domain verify begins anew"
	case time.Since(d.NextCheckAt) > time.Minute:
		return when(d.NextCheckAt) + ", when it is its turn"
	}
	return when(d.NextCheckAt)
}

// showRecords prints a table of the records, one of the keys, and what to do.
func showRecords(out io.Writer, d senderdomain.Domain) error {
	var records, keys [][]string
	var todo strings.Builder
	for _, r := range d.Records {
		required := "required"
		if !r.Required {
			required = "-"
		}
		records = append(records, []string{string(r.Kind), required, string(r.Type), r.Name, string(r.Status), orDash(string(r.Problem))})
		if r.Remedy != "" {
			// The remedy may quote what the DNS has: strangers write that.
			fmt.Fprintf(&todo, "%s %s: %s\n", r.Type, r.FQDN, plaintext.Printable(r.Remedy))
		}
	}
	for _, k := range d.Keys {
		remove := "no"
		if k.SafeToRemove() {
			remove = "yes"
		}
		keys = append(keys, []string{k.Selector, k.Algorithm, string(k.State), when(k.Since), remove})
	}
	fmt.Fprintln(out)
	if err := table(out, "RECORD\tREQUIRED\tTYPE\tNAME\tSTATUS\tPROBLEM", records); err != nil {
		return err
	}
	if len(keys) > 0 {
		fmt.Fprintln(out)
		if err := table(out, "KEY\tALGORITHM\tSTATE\tSINCE\tSAFE TO REMOVE", keys); err != nil {
			return err
		}
	}
	if err := showAuthentication(out, &todo, d); err != nil {
		return err
	}
	if todo.Len() > 0 {
		fmt.Fprintf(out, "\n%s", todo.String())
	}
	return nil
}

// showAuthentication prints what receivers will find, and adds the reasons to what is to be done.
func showAuthentication(out io.Writer, todo io.Writer, d senderdomain.Domain) error {
	var rows [][]string
	for _, a := range senderdomain.Authenticate(d) {
		row := []string{orDash(a.Relay)}
		for _, v := range []struct {
			name string
			senderdomain.Verdict
		}{{"SPF", a.SPF}, {"DKIM", a.DKIM}, {"DMARC", a.DMARC}} {
			result := string(v.Result)
			if v.Result == senderdomain.AuthPass && !v.Aligned {
				result += ", not aligned"
			}
			row = append(row, result)
			if v.Reason != "" {
				fmt.Fprintf(todo, "%s through %s: %s\n", v.name, orDash(a.Relay), plaintext.Printable(v.Reason))
			}
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(out)
	return table(out, "RELAY\tSPF\tDKIM\tDMARC", rows)
}

// zone are the records as a fragment of a zone file.
func zone(d senderdomain.Domain) string {
	var b strings.Builder
	for _, r := range d.Records {
		need := "required"
		if !r.Required {
			need = "recommended"
		}
		fmt.Fprintf(&b, "; %s, %s\n%s\n", r.Kind, need, r.ZoneFile)
	}
	return b.String()
}

func domainVerifyCommand() *cobra.Command {
	return ofDomain("verify NAME --customer CUSTOMER", "Have the domain's DNS records looked at now; a failed domain's checks begin anew",
		func(ctx context.Context, s *db.DB, d senderdomain.Domain, out io.Writer) error {
			d, err := s.Accounts.CheckDomainNow(ctx, d.CustomerID, d.ID)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s\na worker looks at the DNS within a minute: postrider domain show %s --customer %s\n", d.Name, domainState(d), d.Name, d.CustomerID)
			return nil
		})
}

func domainRotateCommand() *cobra.Command {
	return ofDomain("rotate NAME --customer CUSTOMER", "Make new DKIM keys for a domain; they take over once their records are found",
		func(ctx context.Context, s *db.DB, d senderdomain.Domain, out io.Writer) error {
			d, err := s.Accounts.RotateDKIM(ctx, d.CustomerID, d.ID)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s has these records; those of older keys stay until they are safe to remove\n\n%s", d.Name, zone(d))
			return nil
		})
}

func domainUnverifyCommand() *cobra.Command {
	return ofDomain("unverify NAME --customer CUSTOMER", "Take a sender domain back: only an operator verifies it again; accepted mail goes on",
		func(ctx context.Context, s *db.DB, d senderdomain.Domain, out io.Writer) error {
			if _, err := s.Accounts.VerifyDomain(ctx, d.CustomerID, d.Name, false); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is not verified: mail from it is refused until an operator verifies it for a customer\n", d.Name)
			return nil
		})
}

func domainRemoveCommand() *cobra.Command {
	cmd := ofDomain("remove NAME --customer CUSTOMER", "Remove a sender domain and its keys from a customer; accepted mail goes on",
		func(ctx context.Context, s *db.DB, d senderdomain.Domain, out io.Writer) error {
			deleted, err := s.Accounts.DeleteDomain(ctx, d.CustomerID, d.Name)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is deleted\n", d.Name)
			if !deleted.VerifiedAt.IsZero() {
				fmt.Fprintf(out, "nobody sends from it until it is verified for a customer: postrider domain add %s --customer CUSTOMER --verified\n", d.Name)
			}
			return nil
		})
	cmd.Aliases = []string{"delete"}
	return cmd
}
