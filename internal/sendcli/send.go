// Package sendcli is `postrider send`: a program that sends e-mail over the REST API, as any other
// client does. It imports the client and the contract, and neither the store nor the server.
//
//   - send.go: the command, the address and key of the API, and the output for one e-mail
//   - flags.go: makes a message of the flags, and explains refusals in terms of the flags
//   - batch.go, csv.go, progress.go: one message to all recipients of a file
package sendcli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/plaintext"
)

// ExitCode is an error that ends the process with that exit code. Nothing more is printed.
type ExitCode int

func (c ExitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

// The exit codes of send besides 0 and 1. They are published: scripts depend on them.
const (
	exitNotDelivered ExitCode = 2
	exitStillOpen    ExitCode = 3
)

// sendTries is fewer than the client's default, because the user waits. The last try is 2 to
// 4 s after the first.
const sendTries = 4

// Command is postrider send.
func Command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use: "send --to ADDRESS --subject TEXT --text TEXT", Short: "Send an e-mail over the API, and show its status", Args: cobra.NoArgs,
		Long: `Send an e-mail over the API of a running Postrider.

POSTRIDER_URL is its address, POSTRIDER_ACCESSKEY the access key. If neither is set,
both are read from .postrider/dev.env in the current directory, which postrider dev
writes (POSTRIDER_DEV_DIR names another directory than .postrider).

An address is you@example.net, or "Your Name <you@example.net>". --text and --html
take the text itself, @FILE, or - for standard input.

Exit codes:
  0  the e-mail is accepted; with --wait, delivered to every recipient
  1  it is refused, or there was no answer: the reasons name the flag
  2  with --wait: at least one recipient will not get it
  3  with --wait: at least one recipient is still open, and none has failed

With --batch FILE.csv, each recipient in the file gets a copy. The first line names
the columns: email, name if there are names, and variables. The subject, the text,
the HTML, headers and metadata use them as {{order}}. The command shows the progress
until every e-mail is finished or waits for a later attempt, as a deferred one does.
The exit codes are those of --wait. A file of more than 10,000 rows becomes several
batches, with -1, -2 and so on after the idempotency key.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.subjectGiven = cmd.Flags().Changed("subject")
			return f.send(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f.define(cmd)
	return cmd
}

// send sends the e-mail of the flags and prints its status.
func (f *flags) send(ctx context.Context, stdin io.Reader, out, errOut io.Writer) error {
	if err := config.CheckNames(os.Environ()); err != nil {
		return err
	}
	url, accessKey, err := apiAccess()
	if err != nil {
		return err
	}
	c, err := client.New(url, accessKey, client.WithRetry(client.Retry{Tries: sendTries}))
	if err != nil {
		return fmt.Errorf("POSTRIDER_URL or POSTRIDER_ACCESSKEY: %w", err)
	}
	if f.key == "" {
		f.key = rand.Text() // an error names it, so that the user can send again with it
	}
	if f.batch != "" {
		return f.sendBatch(ctx, c, url, stdin, out, errOut)
	}
	m, err := f.message(stdin)
	if err != nil {
		return errors.Join(err, f.refusal(out, "", &client.Error{Code: email.CodeInvalidRequest, Detail: err.Error()}))
	}
	sent, err := c.Send(ctx, m, client.IdempotencyKey(f.key), client.Wait(f.wait))
	if err != nil {
		return errors.Join(f.explain(url, sent.ID, err), f.refusal(out, sent.ID, err))
	}
	if err := f.print(out, sent); err != nil {
		return err
	}
	if f.wait == 0 {
		return nil
	}
	return verdict(sent.Recipients)
}

// apiAccess is the URL of the API and the access key. Both are from the environment or both
// from dev.env, so that no key is sent to another server.
func apiAccess() (url, key string, err error) {
	url, key = os.Getenv("POSTRIDER_URL"), os.Getenv("POSTRIDER_ACCESSKEY")
	switch {
	case url != "" && key != "":
		return url, key, nil
	case url != "":
		return "", "", errors.New("POSTRIDER_ACCESSKEY is not set, but POSTRIDER_URL is: set it to an access key; postrider key create makes one")
	case key != "":
		return "", "", errors.New("POSTRIDER_URL is not set, but POSTRIDER_ACCESSKEY is: set it to the address of the API, as https://mail.example.com")
	}
	path := filepath.Join(cmp.Or(os.Getenv("POSTRIDER_DEV_DIR"), ".postrider"), "dev.env")
	text, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("POSTRIDER_URL and POSTRIDER_ACCESSKEY are not set, and there is no dev.env to read them from: %w", err)
	}
	env := config.ParseEnvFile(string(text))
	if url, key = env["POSTRIDER_URL"], env["POSTRIDER_ACCESSKEY"]; url == "" || key == "" {
		return "", "", fmt.Errorf("%s has no POSTRIDER_URL or no POSTRIDER_ACCESSKEY: start postrider dev again, which writes it", path)
	}
	return url, key, nil
}

// print prints the e-mail and each recipient, one line each.
func (f *flags) print(out io.Writer, sent client.Sent) error {
	if f.json {
		return writeJSON(out, sent.JSON())
	}
	fmt.Fprintf(out, "%s %s\n", sent.ID, withDetail(string(sent.Status), sent.StatusDetail))
	for _, r := range sent.Recipients {
		fmt.Fprintf(out, "%s %s\n", r.Address, recipientLine(r))
	}
	return nil
}

// failureJSON is what --json prints for a failure. Code and errors are those of the API's
// answer; without an answer the code is one of the two below.
type failureJSON struct {
	Code   email.Code         `json:"code"`
	Detail string             `json:"detail"`
	Errors []email.FieldError `json:"errors,omitempty"`
	// Status is the HTTP status; 0 without an answer.
	Status    int    `json:"status,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// ID is the id of the e-mail, if it was accepted and only its status is unknown.
	ID             string `json:"id,omitempty"`
	IdempotencyKey string `json:"idempotency_key"`
}

// The codes of failureJSON that are not the API's.
const (
	// codeNotSent: there was no connection, so nothing was accepted.
	codeNotSent email.Code = "not_sent"
	// codeOutcomeUnknown: there was no answer. Sending again with the idempotency key is safe.
	codeOutcomeUnknown email.Code = "outcome_unknown"
)

// refusal prints the failure as JSON, with --json.
func (f *flags) refusal(out io.Writer, id string, err error) error {
	if !f.json {
		return nil
	}
	j := failureJSON{Code: codeOutcomeUnknown, Detail: err.Error(), ID: id, IdempotencyKey: f.key}
	if e, ok := errors.AsType[*client.Error](err); ok {
		j.Code, j.Detail, j.Status, j.RequestID, j.Errors = e.Code, e.Detail, e.Status, e.RequestID, e.Fields
	} else if client.NotSent(err) {
		j.Code = codeNotSent
	}
	return writeJSON(out, j)
}

func withDetail(status string, detail email.Detail) string {
	if detail == "" {
		return status
	}
	return fmt.Sprintf("%s (%s)", status, detail)
}

func recipientLine(r client.Recipient) string {
	line := withDetail(string(r.Status), r.Reason)
	if r.SMTPCode != 0 {
		reply := fmt.Sprint(r.SMTPCode)
		for _, part := range []string{r.EnhancedCode, r.Text} {
			if part != "" && !strings.HasPrefix(r.Text, part+" ") {
				reply += " " + part
			}
		}
		line += ": " + plaintext.Printable(reply)
	} else if r.Text != "" {
		line += ": " + plaintext.Printable(r.Text)
	}
	switch by := r.AcceptedBy; {
	case by != nil && by.Means == email.AcceptsRelay:
		line += ", by the relay " + plaintext.Printable(by.Host) + ", which passes it on"
	case by != nil:
		line += ", by the recipient's server " + plaintext.Printable(by.Host)
	case r.Status == email.RecipientDeferred && !r.NextAttemptAt.IsZero():
		line += ", next attempt " + r.NextAttemptAt.Local().Format(time.RFC3339)
	}
	return line
}

// verdict is the exit code for the recipients' statuses.
func verdict(rs []client.Recipient) error {
	switch {
	case slices.ContainsFunc(rs, func(r client.Recipient) bool { return !r.Status.Open() && r.Status != email.RecipientDelivered }):
		return exitNotDelivered
	case slices.ContainsFunc(rs, func(r client.Recipient) bool { return r.Status.Open() }):
		return exitStillOpen
	}
	return nil
}
