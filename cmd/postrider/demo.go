package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/config"
)

// The demo customer of `postrider dev`. example.com is reserved (RFC 2606).
const (
	demoCustomer = "Demo"
	demoUser     = "demo"
	demoDomain   = "example.com"
	demoFrom     = "demo@example.com"
)

// demo has the ids and credentials of the demo customer.
type demo struct {
	customerID    string
	username      string
	mailboxID     string
	accessKey     string
	password      string
	webhookSecret string
}

// demoID is the id of the demo customer. It is fixed, so that dev finds the customer under any
// name, and without dev.env. The customer of an older installation has another id, which is in
// dev.env.
const demoID = "0199a000-0000-7000-8000-00000000de30"

// demoCustomerOf finds the demo customer by id, or creates it. If the operator has deleted it,
// the new one has another id.
func demoCustomerOf(ctx context.Context, s *db.DB, known string) (account.Customer, error) {
	id := demoID
	for _, candidate := range []string{known, demoID} {
		if _, err := uuid.Parse(candidate); err != nil {
			continue
		}
		c, err := s.Accounts.Customer(ctx, candidate)
		switch {
		case email.FailureCode(err) == email.CodeNotFound:
			continue
		case err != nil:
			return account.Customer{}, err
		case c.DeletedAt.IsZero():
			return c, nil
		case candidate == demoID:
			id = uuid.Must(uuid.NewV7()).String()
		}
	}
	c, _, err := s.Accounts.CreateCustomerWithID(ctx, id, demoCustomer, "made by postrider dev", "")
	return c, err
}

// makeDemo creates the demo customer, or finds that of an earlier start. The access key and the
// password are read from dev.env, because the database has no readable copy. If they are lost,
// it makes new ones. If another customer has taken the username or the domain, it writes a line
// to out and goes on.
func makeDemo(ctx context.Context, s *db.DB, cfg config.Config, out io.Writer) (demo, error) {
	known := readEnv(envPath(cfg))
	cust, err := demoCustomerOf(ctx, s, known["POSTRIDER_CUSTOMER_ID"])
	if err != nil {
		return demo{}, err
	}
	d := demo{customerID: cust.ID, username: demoUser, accessKey: known["POSTRIDER_ACCESSKEY"], password: known["POSTRIDER_PASSWORD"]}
	if g, err := s.Accounts.GrantByToken(ctx, d.accessKey); err != nil || g.Customer.ID != cust.ID || !g.Admin() {
		if err != nil && email.FailureCode(err) != email.CodeUnauthorized {
			return demo{}, err
		}
		if _, d.accessKey, err = s.Accounts.CreateAccessKey(ctx, account.AccessKey{CustomerID: cust.ID, Name: "dev", Detail: "made by postrider dev", Scopes: []account.Scope{account.ScopeAdmin}}); err != nil {
			return demo{}, err
		}
	}
	if d.password == "" {
		d.password = rand.Text()
	}
	err = s.Accounts.EnsureUser(ctx, cust.ID, d.username, d.password)
	if email.FailureCode(err) == email.CodeConflict {
		fmt.Fprintf(out, "the username %s is another customer's: the demo customer logs in as ", demoUser)
		d.username = demoUser + "-" + cust.ID
		fmt.Fprintln(out, d.username)
		err = s.Accounts.EnsureUser(ctx, cust.ID, d.username, d.password)
	}
	if err != nil {
		return demo{}, err
	}
	_, err = s.Accounts.AddDomain(ctx, cust.ID, demoDomain, true)
	if email.FailureCode(err) == email.CodeConflict {
		fmt.Fprintf(out, "another customer has verified the domain %s: mail of the demo customer from it is refused\n", demoDomain)
		err = nil
	} else if err == nil && cust.DefaultSource == nil { // a first e-mail needs no sender then
		cust.DefaultSource = &account.Source{Email: demoFrom, Name: demoCustomer}
		_, _, err = s.Accounts.UpdateCustomer(ctx, cust)
	}
	if err != nil {
		return demo{}, err
	}
	if d.webhookSecret, err = s.Webhooks.WebhookSecret(ctx, cust.ID); err != nil {
		return demo{}, err
	}
	box, err := s.Mailboxes.CatchAllMailbox(ctx, cust.ID, "inbox@"+demoDomain)
	d.mailboxID = box.ID.String()
	return d, err
}

func envPath(cfg config.Config) string { return filepath.Join(cfg.DevDir, "dev.env") }

// ownedName is the comment in dev.env that lists the variables of servers that dev started
// itself. Those servers end with dev. If a shell has sourced dev.env and starts dev again, dev
// must not use their addresses.
const ownedName = "# started by postrider dev"

// dropStale removes the addresses and the key of an earlier start of dev from the settings and
// the environment.
func dropStale(cfg *config.Config) error {
	known := readEnv(envPath(*cfg))
	for name := range strings.FieldsSeq(known[ownedName]) {
		if os.Getenv(name) != known[name] {
			continue
		}
		switch name {
		case "DATABASE_URL":
			cfg.DatabaseURL = config.NewSecret("")
		case "POSTRIDER_TEMPORAL_UI_URL":
			cfg.TemporalUIURL = ""
		case "POSTRIDER_SECRET_KEY":
			cfg.SecretKey = config.Key{}
		}
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return nil
}

// readEnv reads dev.env. A missing file has no variables.
func readEnv(path string) map[string]string {
	text, err := os.ReadFile(path)
	if err != nil {
		return map[string]string{} // an unreadable file is the same as a missing one: dev writes it again
	}
	return config.ParseEnvFile(string(text))
}

// write writes dev.env, which scripts read. Only this user can read it.
func (d demo) write(cfg config.Config, owned []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s='%s'\n", ownedName, strings.Join(owned, " "))
	for _, kv := range [][2]string{
		{"POSTRIDER_URL", localURL("http", cfg.Listen)},
		{"POSTRIDER_ACCESSKEY", d.accessKey},
		{"POSTRIDER_USERNAME", d.username},
		{"POSTRIDER_PASSWORD", d.password},
		{"POSTRIDER_FROM", demoFrom},
		{"POSTRIDER_CUSTOMER_ID", d.customerID},
		{"POSTRIDER_MAILBOX_ID", d.mailboxID},
		{"POSTRIDER_WEBHOOK_SECRET", d.webhookSecret},
		{"DATABASE_URL", cfg.DatabaseURL.Reveal()},
		{"TEMPORAL_ADDRESS", os.Getenv("TEMPORAL_ADDRESS")},
		{"POSTRIDER_TEMPORAL_UI_URL", cfg.TemporalUIURL},
		{"POSTRIDER_SMTP_URLS", strings.Join(cfg.SMTPURLs, " ")},
		{"POSTRIDER_SECRET_KEY", base64.StdEncoding.EncodeToString(cfg.SecretKey.Bytes())},
	} {
		fmt.Fprintf(&b, "%s='%s'\n", kv[0], kv[1])
	}
	tmp := envPath(cfg) + ".new"
	if err := os.WriteFile(tmp, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, envPath(cfg))
}

// print shows the addresses, and commands to paste.
func (d demo) print(w io.Writer, cfg config.Config) {
	url := localURL("http", cfg.Listen)
	fmt.Fprintf(w, `
Postrider is running.

  API          %[1]s  (described at %[1]s/docs)
  Temporal UI  %[2]s
  inbox        %[3]s  (mail that Postrider sends arrives in it; it takes none from other programs)
  log          %[4]s
  settings     %[5]s  (for scripts: set -a; . %[5]s)

Send:

  curl -s '%[1]s/v1.0/emails?accesskey=%[6]s' \
    --header 'Content-Type: application/json' \
    --data '{"from":{"email":"%[7]s","name":"Demo"},"to":[{"email":"you@example.net"}],
             "subject":"Hello","content":{"text":"It works.","html":"<p>It works.</p>"}}'

See its status:

  curl -s '%[1]s/v1.0/emails?accesskey=%[6]s&page_size=1'

Read the inbox:

  curl -s '%[1]s/v1.0/mailboxes/%[8]s/messages?accesskey=%[6]s'

`, url, cfg.TemporalUIURL, localURL("smtp", cfg.InboundListen), filepath.Join(cfg.DevDir, "postrider.log"), envPath(cfg),
		d.accessKey, demoFrom, d.mailboxID)
	printQueries(w, cfg.TemporalUIURL)
	fmt.Fprintf(w, "Ctrl-C stops everything. The state stays in %s.\n\n", cfg.DevDir)
}
