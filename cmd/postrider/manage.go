package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
)

// listPage is the number of rows per page.
const listPage = 200

// all reads a list to its end, page by page.
func all[T any](read func(after email.Cursor, limit int) ([]T, *email.Cursor, error)) (out []T, err error) {
	for next := (&email.Cursor{}); next != nil; {
		var rows []T
		if rows, next, err = read(*next, listPage); err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// table prints rows below a heading, in columns. Without rows it prints the heading only.
func table(out io.Writer, heading string, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, heading)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	return w.Flush()
}

// fields prints the names and values of one object's fields.
func fields(out io.Writer, rows ...[]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\n", r[0], r[1])
	}
	return w.Flush()
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// ofCustomer makes a command with the flag --customer. do gets that customer and the arguments.
func ofCustomer(use, short string, args cobra.PositionalArgs, do func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error) *cobra.Command {
	var customer string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, err := findCustomer(ctx, s, customer)
				if err != nil {
					return err
				}
				return do(ctx, s, c, args, out)
			})
		},
	}
	customerFlag(cmd, &customer)
	return cmd
}

// customerVerb makes a command whose argument is a customer.
func customerVerb(use, short, long string, do func(ctx context.Context, s *db.DB, c account.Customer, out io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " CUSTOMER", Short: short, Long: long, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				c, err := findCustomer(ctx, s, args[0])
				if err != nil {
					return err
				}
				return do(ctx, s, c, out)
			})
		},
	}
}

func manageCustomers() []*cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the customers, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withStore(cmd, func(ctx context.Context, s *db.DB, out io.Writer) error {
				customers, err := all(func(after email.Cursor, limit int) ([]account.Customer, *email.Cursor, error) {
					return s.Accounts.Customers(ctx, after, limit)
				})
				if err != nil {
					return err
				}
				var rows [][]string
				for _, c := range customers {
					if c.DeletedAt.IsZero() {
						rows = append(rows, []string{c.ID, c.Name, string(c.Status), when(c.CreatedAt)})
					}
				}
				return table(out, "ID\tNAME\tSTATUS\tCREATED", rows)
			})
		},
	}
	show := customerVerb("show", "Show one customer", "", func(ctx context.Context, s *db.DB, c account.Customer, out io.Writer) error {
		users, err := all(func(a email.Cursor, n int) ([]account.User, *email.Cursor, error) {
			return s.Accounts.Users(ctx, c.ID, a, n)
		})
		if err != nil {
			return err
		}
		keys, err := all(func(a email.Cursor, n int) ([]account.AccessKey, *email.Cursor, error) {
			return s.Accounts.AccessKeys(ctx, c.ID, a, n)
		})
		if err != nil {
			return err
		}
		domains, err := all(func(a email.Cursor, n int) ([]account.Domain, *email.Cursor, error) {
			return s.Accounts.Domains(ctx, c.ID, a, n)
		})
		if err != nil {
			return err
		}
		credits := "without limit"
		if c.Credits != nil {
			credits = fmt.Sprint(*c.Credits)
		}
		return fields(out, []string{"id", c.ID}, []string{"name", c.Name}, []string{"status", string(c.Status)}, []string{"detail", orDash(c.Detail)}, []string{"email", orDash(c.Email)},
			[]string{"webhook", orDash(c.WebhookURI)}, []string{"credits", credits}, []string{"created", when(c.CreatedAt)}, []string{"deleted", when(c.DeletedAt)},
			[]string{"users", fmt.Sprint(len(users))}, []string{"keys", fmt.Sprint(len(keys))}, []string{"domains", fmt.Sprint(len(domains))})
	})
	disable := customerVerb("disable", "Refuse a customer's requests; its accepted mail goes on",
		`The customer's access keys and logins are refused with 403 from the next request on, and so
are runs that are started for it directly. They work again after enable. Mail that is
accepted goes on, and its webhooks are called; stop it with: postrider pause --customer CUSTOMER`,
		func(ctx context.Context, s *db.DB, c account.Customer, out io.Writer) error {
			if _, err := s.Accounts.SuspendCustomer(ctx, c.ID, true); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is suspended: its keys and logins are refused. Accepted mail goes on; stop it with: postrider pause --customer %s\n", c.Name, c.ID)
			return nil
		})
	enable := customerVerb("enable", "Accept a customer's requests again", "", func(ctx context.Context, s *db.DB, c account.Customer, out io.Writer) error {
		if _, err := s.Accounts.SuspendCustomer(ctx, c.ID, false); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s is active\n", c.Name)
		return nil
	})
	remove := customerVerb("delete", "Delete a customer that never had mail, with its users, keys, domains and webhooks",
		"A customer that has sent or received mail is refused: its e-mails stay on record. Use disable.",
		func(ctx context.Context, s *db.DB, c account.Customer, out io.Writer) error {
			if err := s.Accounts.DeleteCustomer(ctx, c.ID); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is deleted\n", c.Name)
			return nil
		})
	return []*cobra.Command{list, show, disable, enable, remove}
}

func manageUsers() []*cobra.Command {
	list := ofCustomer("list --customer CUSTOMER", "List a customer's users, newest first", cobra.NoArgs,
		func(ctx context.Context, s *db.DB, c account.Customer, _ []string, out io.Writer) error {
			users, err := all(func(a email.Cursor, n int) ([]account.User, *email.Cursor, error) {
				return s.Accounts.Users(ctx, c.ID, a, n)
			})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, u := range users {
				rows = append(rows, []string{u.Username, u.ID, fmt.Sprint(u.Admin), when(u.CreatedAt)})
			}
			return table(out, "USERNAME\tID\tADMIN\tCREATED", rows)
		})
	show := ofCustomer("show USERNAME --customer CUSTOMER", "Show one user", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			u, err := s.Accounts.UserByName(ctx, c.ID, args[0])
			if err != nil {
				return err
			}
			return fields(out, []string{"username", u.Username}, []string{"id", u.ID}, []string{"customer", u.CustomerID}, []string{"admin", fmt.Sprint(u.Admin)}, []string{"created", when(u.CreatedAt)})
		})
	remove := userVerb("delete", "Delete a user; the tokens of its logins end with it", "is deleted", func(s *db.DB) userChange { return s.Accounts.DeleteUser })
	revoke := userVerb("revoke", "End all tokens of a user's logins; the password stays", "is logged out everywhere", func(s *db.DB) userChange { return s.Accounts.RevokeUser })
	return []*cobra.Command{list, show, passwordCommand(), revoke, remove}
}

// userChange changes a customer's user.
type userChange func(ctx context.Context, customerID, id string) (account.User, error)

// userVerb makes a command whose argument is a username.
func userVerb(use, short, done string, change func(*db.DB) userChange) *cobra.Command {
	return ofCustomer(use+" USERNAME --customer CUSTOMER", short, cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			u, err := s.Accounts.UserByName(ctx, c.ID, args[0])
			if err == nil {
				u, err = change(s)(ctx, c.ID, u.ID)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s\n", u.Username, done)
			return nil
		})
}

// passwordCommand reads the password before it opens the store.
func passwordCommand() *cobra.Command {
	var password string
	cmd := ofCustomer("password USERNAME --customer CUSTOMER", "Give a user another password, read from standard input; the tokens of its logins end", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			u, err := s.Accounts.UserByName(ctx, c.ID, args[0])
			if err == nil {
				u, err = s.Accounts.SetPassword(ctx, c.ID, u.ID, password)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s has a new password, and is logged out everywhere\n", u.Username)
			return nil
		})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		password, err = readPassword(cmd.InOrStdin())
		return err
	}
	return cmd
}

// findKey finds an access key of a customer by id or by the token prefix that the list shows.
func findKey(ctx context.Context, s *db.DB, customerID, idOrPrefix string) (account.AccessKey, error) {
	if _, err := uuid.Parse(idOrPrefix); err == nil {
		return s.Accounts.AccessKey(ctx, customerID, idOrPrefix)
	}
	keys, err := all(func(a email.Cursor, n int) ([]account.AccessKey, *email.Cursor, error) {
		return s.Accounts.AccessKeys(ctx, customerID, a, n)
	})
	if err != nil {
		return account.AccessKey{}, err
	}
	var found []account.AccessKey
	for _, k := range keys {
		if k.TokenPrefix == idOrPrefix {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return account.AccessKey{}, errors.New("there is no such access key: give an id or token prefix of `postrider key list`")
	case 1:
		return found[0], nil
	}
	return account.AccessKey{}, fmt.Errorf("%d access keys begin with %s: give the id", len(found), idOrPrefix)
}

func scopesOf(k account.AccessKey) string {
	var out []string
	for _, s := range k.Scopes {
		out = append(out, string(s))
	}
	return orDash(strings.Join(out, ","))
}

func manageKeys() []*cobra.Command {
	list := ofCustomer("list --customer CUSTOMER", "List a customer's access keys, newest first", cobra.NoArgs,
		func(ctx context.Context, s *db.DB, c account.Customer, _ []string, out io.Writer) error {
			keys, err := all(func(a email.Cursor, n int) ([]account.AccessKey, *email.Cursor, error) {
				return s.Accounts.AccessKeys(ctx, c.ID, a, n)
			})
			if err != nil {
				return err
			}
			var rows [][]string
			for _, k := range keys {
				rows = append(rows, []string{k.ID, k.TokenPrefix, orDash(k.Name), scopesOf(k), when(k.LastUsedAt), when(k.ExpiresAt)})
			}
			return table(out, "ID\tTOKEN\tNAME\tSCOPES\tLAST USED\tEXPIRES", rows)
		})
	show := ofCustomer("show KEY --customer CUSTOMER", "Show one access key, by id or token prefix; never its token", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			k, err := findKey(ctx, s, c.ID, args[0])
			if err != nil {
				return err
			}
			networks := make([]string, len(k.Networks))
			for i, p := range k.Networks {
				networks[i] = p.String()
			}
			return fields(out, []string{"id", k.ID}, []string{"token", k.TokenPrefix}, []string{"name", orDash(k.Name)}, []string{"detail", orDash(k.Detail)}, []string{"customer", k.CustomerID},
				[]string{"scopes", scopesOf(k)}, []string{"sender domains", orDash(strings.Join(k.SenderDomains, ","))}, []string{"networks", orDash(strings.Join(networks, ","))},
				[]string{"created", when(k.CreatedAt)}, []string{"last used", when(k.LastUsedAt)}, []string{"expires", when(k.ExpiresAt)}, []string{"deleted", when(k.DeletedAt)})
		})
	remove := ofCustomer("delete KEY --customer CUSTOMER", "Delete an access key, by id or token prefix; it is refused at once", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			k, err := findKey(ctx, s, c.ID, args[0])
			if err != nil {
				return err
			}
			if _, err := s.Accounts.DeleteAccessKey(ctx, c.ID, k.ID); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is deleted\n", k.TokenPrefix)
			return nil
		})
	return []*cobra.Command{list, show, remove}
}
