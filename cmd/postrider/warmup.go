package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/plaintext"
)

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
