package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/plaintext"
)

// withStore opens the store for a command that works on the database and ends.
func withStore(cmd *cobra.Command, do func(ctx context.Context, s *db.DB, out io.Writer) error) error {
	cfg, err := loadConfig(config.Tool)
	if err != nil {
		return err
	}
	store, err := openStore(cfg, nil, nil)
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
