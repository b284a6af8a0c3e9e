package sendcli

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// maxSendWait is the API's limit for waiting.
const maxSendWait = 60 * time.Second

// flags are the values of the command line.
type flags struct {
	from                 string
	to, cc, bcc, replyTo []string
	subject, text, html  string
	subjectGiven         bool
	calendar             string
	attach, inline       []string
	headers, tags        []string
	metadata             []string
	sendAt, expiresAt    string
	stream, onAmbiguous  string
	unsubscribe          string
	key                  string
	wait                 time.Duration
	json                 bool
	batch                string
	permissive, dryRun   bool
}

func (f *flags) define(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.from, "from", "", "the sender; left out, the customer's default source")
	fl.StringArrayVar(&f.to, "to", nil, "a recipient (can be repeated, as can --cc, --bcc and --reply-to)")
	fl.StringArrayVar(&f.cc, "cc", nil, "a recipient of a copy")
	fl.StringArrayVar(&f.bcc, "bcc", nil, "a recipient that the others do not see")
	fl.StringArrayVar(&f.replyTo, "reply-to", nil, "the address for answers")
	fl.StringVar(&f.subject, "subject", "", "the subject; it may be empty, but has to be given")
	fl.StringVar(&f.text, "text", "", "the text, @FILE or - for standard input")
	fl.StringVar(&f.html, "html", "", "the HTML, @FILE or - for standard input")
	fl.StringVar(&f.calendar, "calendar", "", "an invitation: the iCalendar text with its METHOD, @FILE or - for standard input")
	fl.StringArrayVar(&f.attach, "attach", nil, "a file to attach (can be repeated)")
	fl.StringArrayVar(&f.inline, "inline", nil, "FILE=CID: a file that the HTML names as cid:CID (can be repeated)")
	fl.StringArrayVar(&f.headers, "header", nil, "'X-Name: value': a header field (can be repeated)")
	fl.StringArrayVar(&f.tags, "tag", nil, "a tag, by which lists can be filtered (can be repeated)")
	fl.StringArrayVar(&f.metadata, "metadata", nil, "NAME=VALUE, which comes back in answers and webhooks (can be repeated)")
	fl.StringVar(&f.sendAt, "send-at", "", "the time of the first attempt, as 2026-01-02T15:04:05Z")
	fl.StringVar(&f.expiresAt, "expires-at", "", "the time after which there are no attempts, as 2026-01-02T15:04:05Z")
	fl.StringVar(&f.stream, "stream", "", "transactional (the default) or broadcast")
	fl.StringVar(&f.unsubscribe, "unsubscribe", "", "true (the default of broadcast mail), false, or a topic: whether the recipient, who has to be the only one, can unsubscribe, and what from")
	fl.StringVar(&f.onAmbiguous, "on-ambiguous", "", "retry (the default) or fail: what to do if the server's reply to the message never comes")
	fl.StringVar(&f.key, "idempotency-key", "", "a key of your choice for this e-mail: sent again with it within 7 days, it is accepted once")
	fl.DurationVar(&f.wait, "wait", 0, "how long to wait until every recipient is delivered or failed, as 20s; at most 60s, with --batch any time")
	fl.StringVar(&f.batch, "batch", "", "a CSV file of recipients, or -: each gets a copy")
	fl.BoolVar(&f.permissive, "permissive", false, "with --batch: leave out the rows that are refused, and send the others")
	fl.BoolVar(&f.dryRun, "dry-run", false, "with --batch: check the file and show the first copy; nothing is sent")
	fl.BoolVar(&f.json, "json", false, "print the API's answer as JSON, of a refusal too")
}

// message makes the message of the flags. Its error lists all problems of them, one per line.
func (f *flags) message(stdin io.Reader) (client.Message, error) {
	var wrong []error
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	m := client.Message{
		To: addresses(f.to), Cc: addresses(f.cc), Bcc: addresses(f.bcc), ReplyTo: addresses(f.replyTo), Subject: f.subject,
		Tags: f.tags, Stream: email.Stream(f.stream), OnAmbiguous: email.OnAmbiguous(f.onAmbiguous),
	}
	switch f.unsubscribe {
	case "":
	case "true", "false":
		m.Unsubscribe = &client.Unsubscribe{Off: f.unsubscribe == "false"}
	default:
		m.Unsubscribe = &client.Unsubscribe{Topic: f.unsubscribe}
	}
	for _, given := range []struct {
		flag   string
		values []string
	}{{"--from", []string{f.from}}, {"--to", f.to}, {"--cc", f.cc}, {"--bcc", f.bcc}, {"--reply-to", f.replyTo}} {
		for _, v := range given.values {
			switch {
			case !severalAddresses(v):
			case given.flag == "--from":
				bad("--from %q: there is more than one address; give one, and a name with a comma in quotes", v)
			default:
				bad("%s %q: there is more than one address; give one address for each %s, and a name with a comma in quotes", given.flag, v, given.flag)
			}
		}
	}
	if f.from != "" {
		m.From = address(f.from)
	}
	var fromStdin string
	for _, body := range []struct{ flag, value string }{{"--text", f.text}, {"--html", f.html}, {"--calendar", f.calendar}} {
		if body.value == "-" && fromStdin != "" {
			bad("%s: standard input is %s already; put one of them into a file", body.flag, fromStdin)
			stdin = strings.NewReader("")
		} else if body.value == "-" {
			fromStdin = body.flag
		}
	}
	for _, body := range []struct {
		flag, value string
		into        *string
	}{{"--text", f.text, &m.Content.Text}, {"--html", f.html, &m.Content.HTML}} {
		text, err := content(body.value, stdin)
		if err != nil {
			bad("%s: %w", body.flag, err)
		}
		*body.into = text
	}
	if f.calendar != "" {
		ics, err := content(f.calendar, stdin)
		if err != nil {
			bad("--calendar: %w", err)
		}
		m.Content.Calendar = &client.Calendar{Method: calendarMethod(ics), ICS: ics}
	}
	for _, file := range f.attach {
		data, err := os.ReadFile(file)
		if err != nil {
			bad("--attach: %w", err)
		}
		m.Attachments = append(m.Attachments, client.Attachment{Filename: filepath.Base(file), Content: data})
	}
	for _, s := range f.inline {
		i := strings.LastIndexByte(s, '=')
		if i <= 0 || i == len(s)-1 {
			bad("--inline %q: give FILE=CID, as logo.png=logo for <img src=\"cid:logo\">", s)
			continue
		}
		data, err := os.ReadFile(s[:i])
		if err != nil {
			bad("--inline: %w", err)
		}
		m.Attachments = append(m.Attachments, client.Attachment{Filename: filepath.Base(s[:i]), Content: data, ContentID: s[i+1:]})
	}
	for _, s := range f.headers {
		name, value, ok := strings.Cut(s, ":")
		if !ok {
			bad("--header %q: give 'X-Name: value'", s)
		}
		m.Headers = append(m.Headers, email.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
	}
	for _, s := range f.metadata {
		name, value, ok := strings.Cut(s, "=")
		if _, twice := m.Metadata[name]; !ok || twice {
			bad("--metadata %q: give NAME=VALUE, each name once", s)
		}
		if m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
		m.Metadata[name] = value
	}
	for _, at := range []struct {
		flag, value string
		into        *time.Time
	}{{"--send-at", f.sendAt, &m.SendAt}, {"--expires-at", f.expiresAt, &m.ExpiresAt}} {
		if at.value == "" {
			continue
		}
		var err error
		if *at.into, err = time.Parse(time.RFC3339, at.value); err != nil {
			bad("%s %q: give a time in RFC 3339 format: 2026-01-02T15:04:05Z", at.flag, at.value)
		}
	}
	for _, list := range []struct {
		flag   string
		values []string
	}{{"--to", f.to}, {"--cc", f.cc}, {"--bcc", f.bcc}} {
		if f.batch != "" && len(list.values) > 0 {
			bad("%s: the recipients are in the file of --batch; remove it", list.flag)
		}
	}
	if f.subject == "" && !f.subjectGiven {
		bad("--subject: give a subject; it may be empty")
	}
	if f.batch == "" && (f.permissive || f.dryRun) {
		bad("--permissive, --dry-run: these go with --batch")
	}
	if f.wait < 0 || f.wait > maxSendWait && f.batch == "" {
		bad("--wait %s: give a time of at most %s, as 20s", f.wait, maxSendWait)
	}
	return m, errors.Join(wrong...)
}

// calendarMethod is the value of METHOD in a calendar; empty if it has none.
func calendarMethod(ics string) string {
	for line := range strings.Lines(ics) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name, _, _ = strings.Cut(name, ";"); strings.EqualFold(name, "METHOD") {
			return strings.ToUpper(strings.TrimSpace(value))
		}
	}
	return ""
}

// content is the text of a flag: the value itself, the file of @FILE, or standard input for -.
func content(value string, stdin io.Reader) (string, error) {
	var data []byte
	var err error
	switch file, isFile := strings.CutPrefix(value, "@"); {
	case isFile:
		data, err = os.ReadFile(file)
	case value == "-":
		data, err = io.ReadAll(stdin)
	default:
		return value, nil
	}
	return string(data), err
}

func addresses(values []string) (out []client.Address) {
	for _, v := range values {
		out = append(out, address(v))
	}
	return out
}

// severalAddresses reports a value with several addresses, separated by commas, semicolons or
// space. Read as one address, "A <a@x>, B <b@y>" would be a mail to b only. It ignores text in
// quotes, which belongs to a name.
func severalAddresses(value string) bool {
	quoted, escaped, at, separated := false, false, 0, false
	for _, r := range strings.TrimSpace(value) {
		switch {
		case escaped:
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted = !quoted
		case quoted:
		case r == '@':
			if at++; at > 1 && separated {
				return true
			}
		case at > 0 && (r == ',' || r == ';' || unicode.IsSpace(r)):
			separated = true
		}
	}
	return false
}

// address splits you@example.net or Name <you@example.net>. The API checks the address.
func address(s string) client.Address {
	s = strings.TrimSpace(s)
	open := strings.LastIndexByte(s, '<')
	if open < 0 || !strings.HasSuffix(s, ">") {
		return client.Address{Email: s}
	}
	name := strings.TrimSpace(s[:open])
	if quoted := len(name) >= 2 && name[0] == '"' && name[len(name)-1] == '"'; quoted {
		name = strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(name[1 : len(name)-1])
	}
	return client.Address{Email: strings.TrimSpace(s[open+1 : len(s)-1]), Name: name}
}

// missing are the explanations of missing members, with flags instead of JSON.
var missing = map[string]string{
	"/from":    "--from: give the sender; this customer has no default source",
	"/to":      "--to: give at least one recipient",
	"/content": "--text or --html: give a text, HTML or both; they may not be empty",
}

// explain explains an error in terms of the flags, one line per problem. It does not wrap the
// cause: the command would treat a wrapped context.Canceled as a normal end.
func (f *flags) explain(url, id string, err error) error {
	e, refused := errors.AsType[*client.Error](err)
	switch {
	case id != "":
		return fmt.Errorf("the e-mail is accepted as %s, but the request for its status failed: %s", id, err.Error())
	case !refused && client.NotSent(err):
		return fmt.Errorf("no connection to %s: %s\nnothing was accepted: check that POSTRIDER_URL is right and that Postrider runs, and send again", url, err.Error())
	case !refused:
		return fmt.Errorf("no answer from %s: %s\nit is not known whether the e-mail was accepted; --idempotency-key %s makes it safe to send again", url, err.Error(), f.key)
	case len(e.Fields) > 0:
		lines := make([]string, len(e.Fields))
		for i, field := range e.Fields {
			lines[i] = f.flag(field.Pointer) + ": " + field.Detail
			if own := missing[field.Pointer]; own != "" && field.Code == "missing" {
				lines[i] = own
			}
		}
		return errors.New(strings.Join(lines, "\n"))
	case e.Code == "":
		return fmt.Errorf("POSTRIDER_URL: %s answers %d %s: is that a Postrider?", url, e.Status, e.Detail)
	case e.Code == email.CodeUnauthorized || e.Code == email.CodeForbidden:
		return errors.New("POSTRIDER_ACCESSKEY: " + e.Detail)
	case e.Code == email.CodeIdempotencyConflict:
		return errors.New("--idempotency-key: " + e.Detail)
	case e.Code == email.CodeTooLarge:
		return errors.New("--text, --html, --attach, --inline: " + e.Detail)
	case e.Status >= http.StatusInternalServerError:
		return fmt.Errorf("%s (request %s)", e.Detail, e.RequestID)
	}
	return errors.New(e.Detail)
}

// flag is the flag that a pointer into the request stands for, with its value if the flag can
// be repeated.
func (f *flags) flag(pointer string) string {
	path := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := range path {
		path[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(path[i])
	}
	name := map[string]string{"Idempotency-Key": "--idempotency-key", "content": "--text or --html", "attachments": "--attach or --inline", "headers": "--header", "tags": "--tag"}[path[0]]
	if name == "" {
		name = "--" + strings.ReplaceAll(path[0], "_", "-")
	}
	if len(path) == 1 {
		return name
	}
	switch path[0] {
	case "content":
		return "--" + path[1]
	case "headers", "metadata":
		return name + " " + strconv.Quote(path[1])
	}
	values := map[string][]string{"to": f.to, "cc": f.cc, "bcc": f.bcc, "reply_to": f.replyTo, "tags": f.tags, "attachments": slices.Concat(f.attach, f.inline)}[path[0]]
	i, err := strconv.Atoi(path[1])
	if err != nil || i < 0 || i >= len(values) {
		return name
	}
	if path[0] == "attachments" {
		if name = "--attach"; i >= len(f.attach) {
			name = "--inline"
		}
	}
	return name + " " + strconv.Quote(values[i])
}
