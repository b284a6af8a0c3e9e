package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
)

// withStore opens the store for a command that works on the database and ends.
func withStore(cmd *cobra.Command, do func(ctx context.Context, s *db.DB, out io.Writer) error) error {
	cfg, err := loadConfig(config.Tool)
	if err != nil {
		return err
	}
	store, err := openStore(cfg, nil)
	if err != nil {
		return err
	}
	ctx := context.WithValue(account.WithActor(cmd.Context(), account.Actor{Name: "cli"}), noticeKey{}, cmd.ErrOrStderr())
	return errors.Join(do(ctx, store, cmd.OutOrStdout()), store.Close())
}

// noticeKey is the context key of the writer on which findCustomer names the customer that it
// found. It is standard error, because scripts read standard output.
type noticeKey struct{}

// customerFlag defines --customer, which takes the id or the name of a customer.
func customerFlag(cmd *cobra.Command, value *string) {
	cmd.Flags().StringVar(value, "customer", "", "the customer's id, or its name if no other customer has it (required)")
	if err := cmd.MarkFlagRequired("customer"); err != nil {
		panic(err) // the flag was defined the line before
	}
}

// findCustomer finds a customer by id, or by a name that no other customer has. It prints the
// customer's id and name, so that an operator sees whose data the command reads or changes. A
// deleted customer is found by id only.
func findCustomer(ctx context.Context, s *db.DB, idOrName string) (c account.Customer, err error) {
	if id, parsed := uuid.Parse(idOrName); parsed == nil {
		c, err = s.Accounts.Customer(ctx, id.String())
	} else {
		c, err = s.Accounts.CustomerByName(ctx, idOrName)
	}
	if err != nil {
		return c, err
	}
	if out, ok := ctx.Value(noticeKey{}).(io.Writer); ok {
		fmt.Fprintf(out, "customer %s, %s\n", c.ID, plaintext.Printable(c.Name))
	}
	return c, nil
}

func customerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "customer", Short: "Manage customers"}
	var name, detail, mail string
	create := &cobra.Command{
		Use: "create --name NAME", Short: "Make a customer; print its id and the secret that signs its webhooks", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(name) == "" {
				return errors.New("--name is empty: give the customer a name")
			}
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, secret, err := s.Accounts.CreateCustomer(ctx, name, detail, mail)
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "id             %s\nwebhook secret %s\n", c.ID, secret)
				return nil
			})
		},
	}
	create.Flags().StringVar(&name, "name", "", "the customer's name (required)")
	create.Flags().StringVar(&detail, "detail", "", "a remark")
	create.Flags().StringVar(&mail, "email", "", "the address of a contact for this customer")
	if err := create.MarkFlagRequired("name"); err != nil {
		panic(err) // the flag was defined above
	}
	cmd.AddCommand(create)
	cmd.AddCommand(manageCustomers()...)
	return cmd
}

func userCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Manage users, who log in with a password"}
	var customer, username string
	var admin bool
	create := &cobra.Command{
		Use: "create --customer CUSTOMER --username NAME", Short: "Make a user; the password is read from standard input", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(username) == "" {
				return errors.New("--username is empty: give the user a name")
			}
			password, err := readPassword(cmd.InOrStdin())
			if err != nil {
				return err
			}
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, err := findCustomer(ctx, s, customer)
				if err != nil {
					return err
				}
				u, err := s.Accounts.CreateUser(ctx, c.ID, username, password, admin)
				if err != nil {
					return err
				}
				fmt.Fprintln(out, u.ID)
				return nil
			})
		},
	}
	customerFlag(create, &customer)
	create.Flags().BoolVar(&admin, "admin", false, "let the user act for the whole installation")
	create.Flags().StringVar(&username, "username", "", "the name to log in with (required)")
	if err := create.MarkFlagRequired("username"); err != nil {
		panic(err) // the flag was defined the line before
	}
	cmd.AddCommand(create)
	cmd.AddCommand(manageUsers()...)
	return cmd
}

// readPassword reads a new password: the first line of in.
func readPassword(in io.Reader) (string, error) {
	password, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	password = strings.TrimRight(password, "\r\n")
	if err := account.CheckPassword(password); err != nil {
		return "", fmt.Errorf("standard input: %w", err)
	}
	return password, nil
}

func keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Manage access keys"}
	var customer, name string
	var expire time.Duration
	var admin bool
	var scopes []string
	create := &cobra.Command{
		Use: "create --customer CUSTOMER", Short: "Make an access key and print it, this once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, err := findCustomer(ctx, s, customer)
				if err != nil {
					return err
				}
				wanted := account.AccessKey{CustomerID: c.ID, Name: name}
				if expire > 0 {
					wanted.ExpiresAt = time.Now().Add(expire)
				}
				if admin {
					scopes = append(scopes, string(account.ScopeAdmin))
				}
				for _, s := range scopes {
					if !slices.Contains(account.Scopes(), account.Scope(s)) {
						return fmt.Errorf("--scope %s: there are %v", s, account.Scopes())
					}
					wanted.Scopes = append(wanted.Scopes, account.Scope(s))
				}
				_, token, err := s.Accounts.CreateAccessKey(ctx, wanted)
				if err != nil {
					return err
				}
				fmt.Fprintln(out, token)
				return nil
			})
		},
	}
	customerFlag(create, &customer)
	create.Flags().StringVar(&name, "name", "", "a name to tell keys apart")
	create.Flags().DurationVar(&expire, "expire", 0, "the key's life, as 720h; 0 means it does not expire")
	create.Flags().BoolVar(&admin, "admin", false, "let the key act for the whole installation: pauses, customers")
	create.Flags().StringSliceVar(&scopes, "scope", nil, "what the key may do, several with commas; without it, everything for its own customer")
	cmd.AddCommand(create)
	cmd.AddCommand(manageKeys()...)
	return cmd
}

func domainCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "domain", Short: "Manage sender domains"}
	var customer string
	var verified bool
	add := &cobra.Command{
		Use: "add NAME --customer CUSTOMER [--verified]", Short: "Let a customer send from a domain", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := intake.Domain(args[0])
			if err != nil {
				return err
			}
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, err := findCustomer(ctx, s, customer)
				if err != nil {
					return err
				}
				d, err := s.Accounts.AddDomain(ctx, c.ID, name, verified)
				if err != nil {
					return err
				}
				state := "not verified: mail from it is refused"
				if !d.VerifiedAt.IsZero() {
					state = "verified"
				}
				fmt.Fprintf(out, "%s %s\n", d.Name, state)
				if d.VerifiedAt.IsZero() {
					fmt.Fprintf(out, `
Postrider does not look at the domain itself: you vouch for it. Make sure that it is the
customer's, for instance by a TXT record that you ask the customer for:

  _postrider.%s.  IN TXT  "%s"
  dig +short TXT _postrider.%s

then verify it:

  postrider domain add %s --customer %s --verified
`, d.Name, c.ID, d.Name, d.Name, c.ID)
				}
				return nil
			})
		},
	}
	customerFlag(add, &customer)
	add.Flags().BoolVar(&verified, "verified", false, "vouch for it: the domain is the customer's")
	cmd.AddCommand(add, warmupCommand())
	cmd.AddCommand(manageDomains()...)
	return cmd
}

// warmupCommand shows, sets or ends the warm-up plan of a domain.
func warmupCommand() *cobra.Command {
	var customer, plan, from string
	var off bool
	cmd := &cobra.Command{
		Use: "warmup NAME --customer CUSTOMER [--plan 50,100,200,400 [--from 2026-11-27] | --off]", Args: cobra.ExactArgs(1),
		Short: "Limit the recipients per day (UTC) of a new domain for its first days; without a flag, show the plan and its state",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := intake.Domain(args[0])
			if err != nil {
				return err
			}
			var w account.Warmup
			planned := cmd.Flags().Changed("plan")
			if !planned && cmd.Flags().Changed("from") {
				return errors.New("--from needs --plan")
			}
			if planned {
				if w, err = parseWarmup(plan, from); err != nil {
					return err
				}
			}
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, err := findCustomer(ctx, s, customer)
				if err != nil {
					return err
				}
				d, err := s.Accounts.Domain(ctx, c.ID, name)
				if err == nil && (off || planned) {
					d, err = s.Accounts.SetWarmup(ctx, c.ID, name, w)
				}
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s %s\n", d.Name, d.Warmup.Today())
				if d.Warmup.Waiting > 0 {
					fmt.Fprintf(out, "%s for another day\n", plaintext.Count(d.Warmup.Waiting, "e-mail waits", "e-mails wait"))
				}
				return nil
			})
		},
	}
	customerFlag(cmd, &customer)
	cmd.Flags().StringVar(&plan, "plan", "", "the recipients of the first, second, … day, with commas; afterwards there is no limit")
	cmd.Flags().StringVar(&from, "from", "", "the first day, as 2026-11-27; today if not given")
	cmd.Flags().BoolVar(&off, "off", false, "end the plan: there is no limit any more")
	cmd.MarkFlagsMutuallyExclusive("plan", "off")
	cmd.MarkFlagsMutuallyExclusive("from", "off")
	return cmd
}

func parseWarmup(plan, from string) (w account.Warmup, err error) {
	for part := range strings.SplitSeq(plan, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return w, fmt.Errorf("--plan: %q is no number of recipients", part)
		}
		w.Plan = append(w.Plan, n)
	}
	if err := w.Check(); err != nil {
		return w, fmt.Errorf("--plan: %w", err)
	}
	if w.From, err = w.Beginning(from, time.Now()); err != nil {
		return w, fmt.Errorf("--from %s: %w", from, err)
	}
	return w, nil
}
