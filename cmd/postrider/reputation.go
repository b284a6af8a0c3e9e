package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/reputation"
)

// rollUpEvery is the time between two roll-ups of events.
const rollUpEvery = 3 * time.Second

// watchReputations has the dispatcher of a process with a worker count events and judge sender
// domains by them.
func (a *app) watchReputations() {
	a.dispatcher.AddSweep(rollUpEvery, func(ctx context.Context) error { return a.store.Reputation.RollUp(ctx, a.logReputation) })
}

// logReputation logs that a sender domain has become worse.
func (a *app) logReputation(c reputation.Change) {
	a.log.Warn("reputation."+string(c.Band()), "customer_id", c.CustomerID, "domain", c.Domain, "before", c.Before, "cause", c.Cause,
		"sent", c.Window.Sent, "hard", c.Window.Hard, "delivered", c.Window.Delivered, "complained", c.Window.Complained, "broadcast_paused", c.Paused)
}

func reputationCommand() *cobra.Command {
	var days int
	var stream string
	cmd := ofCustomer("reputation NAME --customer CUSTOMER [--days 30] [--stream broadcast]", "Show what became of a sender domain's mail, and how it is judged by that", cobra.ExactArgs(1),
		func(ctx context.Context, s *db.DB, c account.Customer, args []string, out io.Writer) error {
			name, err := intake.Domain(args[0])
			if err != nil {
				return err
			}
			if days < 1 || days > reputation.MaxDays {
				return fmt.Errorf("--days is from 1 to %d", reputation.MaxDays)
			}
			if stream != "" && stream != string(email.StreamTransactional) && stream != string(email.StreamBroadcast) {
				return errors.New("--stream is transactional or broadcast")
			}
			if _, err := s.Accounts.Domain(ctx, c.ID, name); err != nil {
				return err
			}
			r, err := s.Reputation.Report(ctx, c.ID, name, days, email.Stream(stream))
			if err != nil {
				return err
			}
			return showReputation(out, r)
		})
	cmd.Flags().IntVar(&days, "days", 30, "the number of days of the tables, today (UTC) included")
	cmd.Flags().StringVar(&stream, "stream", "", "only this stream in the tables: transactional or broadcast")
	return cmd
}

func showReputation(out io.Writer, r reputation.Report) error {
	window := r.WindowFrom.Format(time.DateOnly) + " to " + r.WindowTo.Format(time.DateOnly)
	err := fields(out, []string{"domain", r.Domain}, []string{"band", string(r.Band())}, []string{"since", when(r.Since)}, []string{"window", window},
		[]string{"bounces", fmt.Sprintf("%s: %s, %d of %d sent", r.Bounce, rateOf(r.Window.BounceRate()), r.Window.Hard, r.Window.Sent)},
		[]string{"complaints", fmt.Sprintf("%s: %s, %d of %d delivered", r.Complaint, rateOf(r.Window.ComplaintRate()), r.Window.Complained, r.Window.Delivered)})
	if err != nil {
		return err
	}
	var streams, providers, days [][]string
	for _, s := range r.Streams {
		streams = append(streams, countRow(string(s.Stream), s.Counts))
	}
	for _, p := range r.Providers {
		providers = append(providers, countRow(string(p.Provider), p.Counts))
	}
	for _, d := range r.Days {
		days = append(days, countRow(d.Day.Format(time.DateOnly), d.Counts))
	}
	const counts = "\tSENT\tDELIVERED\tDEFERRED\tHARD\tSOFT\tBLOCKED\tCOMPLAINED\tUNSUBSCRIBED\tBOUNCES\tCOMPLAINTS"
	for _, t := range []struct {
		heading string
		rows    [][]string
	}{{"STREAM", streams}, {"PROVIDER", providers}, {"DAY", days}} {
		fmt.Fprintln(out)
		if err := table(out, t.heading+counts, t.rows); err != nil {
			return err
		}
	}
	return nil
}

func countRow(name string, c reputation.Counts) []string {
	row := []string{name}
	for _, n := range []int64{c.Sent, c.Delivered, c.Deferred, c.Hard, c.Soft, c.Blocked, c.Complained, c.Unsubscribed} {
		row = append(row, strconv.FormatInt(n, 10))
	}
	return append(row, rateOf(c.BounceRate()), rateOf(c.ComplaintRate()))
}

// rateOf is a rate in percent.
func rateOf(rate *float64) string {
	if rate == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f %%", *rate*100)
}
