package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/plaintext"
)

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secret", Short: "Show or replace the key that encrypts the secrets in Postgres"}
	cmd.AddCommand(secretStatusCommand(), secretRotateCommand(), secretResetCommand())
	return cmd
}

// withAnyKey opens the store for a command that also works with a wrong key.
func withAnyKey(cmd *cobra.Command, do func(ctx context.Context, s *db.DB, cfg config.Config, out io.Writer) error) error {
	cfg, err := loadConfig(config.Tool)
	if err != nil {
		return err
	}
	store, err := openStore(cfg, nil, nil)
	if err != nil {
		return err
	}
	return errors.Join(do(account.WithActor(cmd.Context(), account.Actor{Name: "cli"}), store, cfg, cmd.OutOrStdout()), store.Close())
}

func secretStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say which key seals, and count the secrets that are sealed with each", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAnyKey(cmd, func(ctx context.Context, s *db.DB, cfg config.Config, out io.Writer) error {
				st, err := s.Keys.SecretKeyStatus(ctx)
				if err != nil {
					return err
				}
				printSecretStatus(out, st, len(cfg.OldSecretKey.Bytes()) > 0)
				return nil
			})
		},
	}
}

func printSecretStatus(out io.Writer, st db.SecretKeyStatus, hasOld bool) {
	sealing := "a key that is not set here"
	switch {
	case !st.Planted:
		sealing = "nothing yet"
	case st.Sealing == 0:
		sealing = "POSTRIDER_SECRET_KEY"
	case st.Sealing == 1:
		sealing = "POSTRIDER_SECRET_KEY_OLD, until `postrider secret rotate`"
	}
	fmt.Fprintf(out, "seals now                     %s\n", sealing)
	if st.Replacing {
		fmt.Fprintln(out, "being replaced                yes: run `postrider secret rotate` to its end")
	}
	fmt.Fprintf(out, "POSTRIDER_SECRET_KEY          %s\n", secrets(st.Current))
	if hasOld {
		fmt.Fprintf(out, "POSTRIDER_SECRET_KEY_OLD      %s\n", secrets(st.Old))
	}
	fmt.Fprintf(out, "open with no key that is set  %s\n", secrets(st.Unreadable))
}

func secrets(n int) string { return plaintext.Count(n, "secret", "secrets") }

func secretRotateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotate", Short: "Make POSTRIDER_SECRET_KEY the key that seals, and seal all secrets with it", Args: cobra.NoArgs,
		Long: `Makes POSTRIDER_SECRET_KEY the key that seals, instead of POSTRIDER_SECRET_KEY_OLD,
and seals with it what is sealed with the old one. Every API process and worker
must have both keys before; they keep running. It may be stopped and run again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAnyKey(cmd, func(ctx context.Context, s *db.DB, _ config.Config, out io.Writer) error {
				total := 0
				n, err := s.Keys.RotateSecretKey(ctx, func(resealed int) {
					total += resealed
					fmt.Fprintf(out, "%s sealed with POSTRIDER_SECRET_KEY\n", secrets(total))
				})
				if err != nil {
					return err
				}
				if n.Unreadable > 0 {
					return fmt.Errorf("left as they are, because no key that is set opens them: %s; sealed with POSTRIDER_SECRET_KEY: %s", secrets(n.Unreadable), secrets(n.Current))
				}
				fmt.Fprintf(out, "done: POSTRIDER_SECRET_KEY seals everything, %s; POSTRIDER_SECRET_KEY_OLD is not needed any more\n", secrets(n.Current))
				return nil
			})
		},
	}
}

func secretResetCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "reset", Short: "After the key was lost: give webhook endpoints whose secret does not open a new one", Args: cobra.NoArgs,
		Long: `For a key that is lost for good. Webhook endpoints whose secret opens with no key
that is set get a new secret, and the key that is set seals from now on. Their
customers cannot verify webhooks until they have the new secret, which they get
by POST /v1.0/webhooks/{id}/rotate-secret. DKIM keys that do not open are revoked:
make new ones with postrider domain rotate.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAnyKey(cmd, func(ctx context.Context, s *db.DB, _ config.Config, out io.Writer) error {
				st, err := s.Keys.SecretKeyStatus(ctx)
				if err != nil {
					return err
				}
				if !yes {
					return fmt.Errorf("nothing was changed: %s would be replaced; run it again with --yes-replace-secrets", secrets(st.Unreadable))
				}
				changed, err := s.Webhooks.ResetSecretKey(ctx)
				if err != nil {
					return err
				}
				for _, e := range changed {
					fmt.Fprintf(out, "webhook %s of customer %s has a new secret  %s\n", e.ID, e.CustomerID, e.URL)
				}
				fmt.Fprintf(out, "replaced: %s\n", secrets(len(changed)))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes-replace-secrets", false, "replace the secrets that do not open")
	return cmd
}
