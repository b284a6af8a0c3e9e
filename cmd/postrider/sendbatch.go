package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

const (
	// maxPartBytes bounds what the rows of one request hold, which the API's limit on
	// bodies leaves room for.
	maxPartBytes = 16 << 20
	// maxPartContent leaves room for what is filled in.
	maxPartContent = email.MaxBatchContentBytes / 2
	// watchEvery is how often the progress is read.
	watchEvery = 500 * time.Millisecond
	// lineEvery is how often it is written where that is no terminal.
	lineEvery = 5 * time.Second
	// maxTold bounds the recipients that are named at the end.
	maxTold = 20
)

// batchRun is a file of recipients on its way.
type batchRun struct {
	*sendFlags
	api     *client.Client
	url     string
	out     io.Writer
	message client.Message
	parts   [][]csvRow
	sent    []client.SentBatch
	// refused counts the rows that a permissive batch left out, reasons has a line for
	// each of the first.
	refused int
	reasons []string
	started time.Time
}

// sendBatch sends one message to all recipients of a file, and tells how it goes on.
func (f *sendFlags) sendBatch(ctx context.Context, api *client.Client, url string, stdin io.Reader, out io.Writer) error {
	m, err := f.message(stdin)
	file, csvErr := csvFile{}, error(nil)
	if f.batch == "-" && (f.text == "-" || f.html == "-") {
		csvErr = errors.New("--batch: standard input is --text or --html already; put one of them into a file")
	} else {
		file, csvErr = readCSV(f.batch, stdin)
	}
	if csvErr == nil && (!f.permissive || len(file.rows) == 0) {
		csvErr = file.whole()
	}
	if err := errors.Join(err, csvErr); err != nil {
		return err
	}
	r := &batchRun{sendFlags: f, api: api, url: url, out: out, message: m, parts: split(file.rows, len(m.Content.Text)+len(m.Content.HTML)), started: time.Now(),
		refused: len(file.bad), reasons: file.bad}
	if f.dryRun {
		return r.preview(ctx)
	}
	if err := r.accept(ctx); err != nil {
		return err
	}
	ps, err := r.watch(ctx)
	if err != nil {
		return err
	}
	return r.finish(ctx, ps)
}

// split makes parts of what one request can hold each: the same of the same rows.
func split(rows []csvRow, contentBytes int) (parts [][]csvRow) {
	most := min(email.MaxBatchRecipients, max(1, int(maxPartContent)/max(1, contentBytes)))
	from, size := 0, 0
	for i, r := range rows {
		n := len(r.Email) + len(r.Name) + 64
		for name, value := range r.Variables {
			n += len(name) + len(value) + 8
		}
		if i > from && (i-from >= most || size+n > maxPartBytes) {
			parts = append(parts, rows[from:i])
			from, size = i, 0
		}
		size += n
	}
	return append(parts, rows[from:])
}

func (r *batchRun) request(rows []csvRow) client.Batch {
	b := client.Batch{Message: &r.message, Recipients: make([]client.BatchRecipient, len(rows))}
	if r.permissive {
		b.Mode = email.BatchPermissive
	}
	for i, row := range rows {
		b.Recipients[i] = row.BatchRecipient
	}
	return b
}

// partKey is the idempotency key of a part: that of the whole where there is one only.
func (r *batchRun) partKey(i int) client.IdempotencyKey {
	if len(r.parts) == 1 {
		return client.IdempotencyKey(r.key)
	}
	return client.IdempotencyKey(r.key + "-" + strconv.Itoa(i+1))
}

// preview shows the first copy.
func (r *batchRun) preview(ctx context.Context) error {
	p, err := r.api.PreviewBatch(ctx, r.request(r.parts[0][:1]))
	if err != nil {
		return r.explainPart(0, err)
	}
	if r.json {
		return writeJSON(r.out, p)
	}
	n := 0
	for _, part := range r.parts {
		n += len(part)
	}
	fmt.Fprintln(r.out, strings.ReplaceAll(p.Source, "\r\n", "\n"))
	for _, c := range p.Checks {
		if c.Level != "ok" {
			fmt.Fprintf(r.out, "%s: %s: %s\n", c.Level, c.Title, c.Detail)
		}
	}
	fmt.Fprintf(r.out, "Nothing was sent: this is the first of %d copies, in %s. Each has %d bytes or so.\n", n, plural(len(r.parts), "batch", "batches"), p.SizeBytes)
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// accept sends the parts, one after the other.
func (r *batchRun) accept(ctx context.Context) error {
	var none error
	for i, part := range r.parts {
		sent, err := r.api.SendBatch(ctx, r.request(part), r.partKey(i))
		if e, ok := errors.AsType[*client.Error](err); ok && r.permissive && onlyRows(e) {
			none = r.explainPart(i, err)
			r.refused += len(part)
			for _, f := range e.Fields {
				r.reasons = append(r.reasons, r.place(part, f.Pointer)+": "+f.Detail)
			}
			continue
		}
		if err != nil {
			return r.explainPart(i, err)
		}
		r.sent = append(r.sent, sent)
		r.refused += sent.Refused
		for _, item := range sent.Items {
			switch {
			case item.Error == nil:
			case len(item.Error.Fields) == 0:
				r.reasons = append(r.reasons, r.place(part, fmt.Sprintf("/recipients/%d", item.Index))+": "+item.Error.Detail)
			default:
				r.reasons = append(r.reasons, r.place(part, item.Error.Fields[0].Pointer)+": "+item.Error.Fields[0].Detail)
			}
		}
		if !r.json {
			accepted := "accepted"
			if sent.Replayed {
				accepted = "accepted before"
			}
			fmt.Fprintf(r.out, "%s %s: %s\n", sent.ID, accepted, plural(sent.Accepted, "e-mail", "e-mails"))
		}
	}
	if len(r.sent) == 0 {
		return none
	}
	return nil
}

// onlyRows says that a batch was refused for its rows alone.
func onlyRows(e *client.Error) bool {
	return e.Code == email.CodeInvalidRequest && len(e.Fields) > 0 &&
		!slices.ContainsFunc(e.Fields, func(f email.FieldError) bool { return !rowPointer.MatchString(f.Pointer) })
}

var rowPointer = regexp.MustCompile(`^/recipients/(\d+)(?:/variables/([^/]+)|/(\w+))?$`)

// place says which line and column of the file, or which flag, a place in a request
// came from.
func (r *batchRun) place(part []csvRow, pointer string) string {
	m := rowPointer.FindStringSubmatch(pointer)
	if m == nil {
		return r.flag(strings.TrimPrefix(pointer, "/message"))
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(part) {
		return "--batch"
	}
	line := fmt.Sprintf("--batch %s: line %d", r.batch, part[i].line)
	switch {
	case m[2] != "":
		return line + ", column " + m[2]
	case m[3] != "" && m[3] != "variables":
		return line + ", column " + m[3]
	}
	return line
}

// explainPart says what went wrong in terms of the command line and the file, and
// what to do about the parts before.
func (r *batchRun) explainPart(i int, err error) error {
	var text string
	e, refused := errors.AsType[*client.Error](err)
	switch {
	case refused && len(e.Fields) > 0 && (e.Code == email.CodeInvalidRequest || e.Code == email.CodeDomainUnverified || e.Code == email.CodeForbidden):
		var lines []string
		for _, f := range e.Fields {
			detail := f.Detail
			if f.Pointer == "/message/from" && f.Code == "missing" {
				detail = "give the sender; this customer has no default source"
			}
			if f.Code == "missing" && strings.HasPrefix(f.Pointer, "/recipients/") && strings.Contains(f.Pointer, "/variables/") {
				detail = "the message uses it, and there is no such column; add it"
			}
			if line := r.place(r.parts[i], f.Pointer) + ": " + detail; !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
		if more := len(lines) - maxTold; more > 0 {
			lines = append(lines[:maxTold], fmt.Sprintf("and %d more", more))
		}
		if !r.permissive && !r.dryRun && onlyRows(e) {
			lines = append(lines, "nothing of this batch was sent; --permissive sends what is good")
		}
		text = strings.Join(lines, "\n")
	default:
		text = r.explain(r.url, "", err).Error()
	}
	if len(r.sent) > 0 {
		text += fmt.Sprintf("\n%s accepted before that; --idempotency-key %s makes it safe to send the mended file again, if the lines before stay as they are",
			plural(len(r.sent), "batch was", "batches were"), r.key)
	}
	return errors.New(text)
}

// watch reads how the batches go on until nothing moves any more: each e-mail has come
// to its end, or waits for a time. With --wait, it ends after that.
func (r *batchRun) watch(ctx context.Context) ([]client.BatchProgress, error) {
	if r.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.wait)
		defer cancel()
	}
	bar := newBar(r.out, r.json)
	defer bar.end()
	ps := make([]client.BatchProgress, len(r.sent))
	for {
		all := total{}
		for i, sent := range r.sent {
			if ps[i].Status != client.BatchFinished {
				p, err := r.api.Batch(ctx, sent.ID)
				if err == nil {
					ps[i] = p
				} else if ctx.Err() == nil {
					return nil, fmt.Errorf("the e-mails are accepted, but there was no answer about what became of them: %s", err.Error())
				}
			}
			all.add(ps[i])
		}
		bar.show(all)
		if all.still() {
			return ps, nil
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) && ps[len(ps)-1].ID != "" {
				return ps, nil
			}
			bar.end()
			return nil, fmt.Errorf("interrupted; the e-mails are accepted and go on: GET /v1.0/batches/%s", r.sent[len(r.sent)-1].ID)
		}
	}
}

// total is the progress of several batches.
type total struct {
	emails  map[string]int
	details map[email.Detail]int
	rate    float64
	nextAt  time.Time
}

func (t *total) add(p client.BatchProgress) {
	if t.emails == nil {
		t.emails, t.details = map[string]int{}, map[email.Detail]int{}
	}
	for s, n := range p.Emails {
		t.emails[s] += n
	}
	for d, n := range p.Details {
		t.details[d] += n
	}
	t.rate += p.Rate
	if !p.NextAttemptAt.IsZero() && (t.nextAt.IsZero() || p.NextAttemptAt.Before(t.nextAt)) {
		t.nextAt = p.NextAttemptAt
	}
}

func (t *total) all() int { return t.emails["total"] }

func (t *total) open() int {
	return t.emails[string(email.StatusQueued)] + t.emails[string(email.StatusSending)]
}

// still says that no e-mail moves: what is open was put off, is for later, or is held.
func (t *total) still() bool {
	waiting := 0
	for _, d := range []email.Detail{email.DetailDeferred, email.DetailPartial, email.DetailScheduled, email.DetailHeld} {
		waiting += t.details[d]
	}
	return t.all() > 0 && t.open() <= waiting
}

// words are the counts, without zeros.
func (t *total) words() string {
	var words []string
	for _, s := range []email.Status{email.StatusDelivered, email.StatusBounced, email.StatusFailed, email.StatusCanceled} {
		if n := t.emails[string(s)]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, s))
		}
	}
	waiting := 0
	for _, d := range slices.Sorted(maps.Keys(t.details)) {
		words = append(words, fmt.Sprintf("%d %s", t.details[d], d))
		waiting += t.details[d]
	}
	if n := t.open() - waiting; n > 0 {
		words = append(words, fmt.Sprintf("%d open", n))
	}
	return strings.Join(words, ", ")
}

// finish prints what became of the e-mails, and turns it into an exit code.
func (r *batchRun) finish(ctx context.Context, ps []client.BatchProgress) error {
	all := total{}
	for _, p := range ps {
		all.add(p)
	}
	if r.json {
		if err := writeJSON(r.out, ps); err != nil {
			return err
		}
	} else {
		took := max(time.Since(r.started), time.Millisecond)
		fmt.Fprintf(r.out, "%s in %s: %s\n", plural(all.all(), "e-mail", "e-mails"), took.Round(100*time.Millisecond), all.words())
		if !all.nextAt.IsZero() {
			fmt.Fprintf(r.out, "the next attempt is at %s\n", all.nextAt.Local().Format(time.RFC3339))
		}
		if err := r.tell(ctx, ps); err != nil {
			return err
		}
	}
	switch {
	case r.refused > 0 || all.all()-all.open() > all.emails[string(email.StatusDelivered)]:
		return exitNotDelivered
	case all.open() > 0:
		return exitStillOpen
	}
	return nil
}

// tell names the first rows that were refused and recipients that will not get it.
func (r *batchRun) tell(ctx context.Context, ps []client.BatchProgress) error {
	if r.refused > 0 {
		fmt.Fprintf(r.out, "%s refused:\n", plural(r.refused, "row", "rows"))
		for _, line := range r.reasons[:min(len(r.reasons), maxTold)] {
			fmt.Fprintln(r.out, line)
		}
	}
	left := maxTold
	for _, p := range ps {
		if p.Count(email.StatusBounced)+p.Count(email.StatusFailed)+p.Count(email.StatusCanceled) == 0 {
			continue
		}
		filter := email.Filter{BatchID: p.ID, Statuses: []email.Status{email.StatusBounced, email.StatusFailed, email.StatusCanceled}}
		for e, err := range r.api.List(ctx, filter, client.PageSize(maxTold)) {
			if err != nil {
				return err
			}
			for _, rec := range e.Recipients {
				fmt.Fprintf(r.out, "%s %s\n", rec.Address, recipientLine(rec))
			}
			if left--; left == 0 {
				fmt.Fprintln(r.out, "and so on: GET /v1.0/emails?batch="+p.ID)
				return nil
			}
		}
	}
	return nil
}

// bar shows a progress: in place on a terminal, as lines elsewhere.
type bar struct {
	out      io.Writer
	terminal bool
	silent   bool
	// last is what was written, at when.
	last string
	at   time.Time
}

func newBar(out io.Writer, silent bool) *bar {
	b := &bar{out: out, silent: silent}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		b.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return b
}

const barWidth = 24

// show writes how far it is. Elsewhere than on a terminal a line that says the same as
// the last, or comes too soon after it, is left out.
func (b *bar) show(t total) {
	if b.silent || t.all() == 0 {
		return
	}
	ended := t.all() - t.open()
	line := fmt.Sprintf("%d of %d (%d%%), %s", ended, t.all(), 100*ended/t.all(), t.words())
	if t.open() > 0 && t.rate > 0 {
		left := time.Duration(float64(t.open()) / t.rate * float64(time.Second))
		line += fmt.Sprintf(", %.0f/s, %s left", t.rate, left.Round(time.Second))
	}
	if b.terminal {
		full := barWidth * ended / t.all()
		fmt.Fprintf(b.out, "\r[%s%s] %s\x1b[K", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), line)
		b.last = line
		return
	}
	if line == b.last || time.Since(b.at) < lineEvery {
		return
	}
	b.last, b.at = line, time.Now()
	fmt.Fprintln(b.out, line)
}

// end leaves the bar's line. It may be called again.
func (b *bar) end() {
	if b.terminal && b.last != "" {
		fmt.Fprintln(b.out)
		b.last = ""
	}
}
