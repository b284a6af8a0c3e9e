package sendcli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
)

const (
	// maxPartBytes bounds the rows of one request, in bytes. The request stays below the API's
	// limit for bodies.
	maxPartBytes = 16 << 20
	// maxPartContent bounds the message's content times the recipients of one request. The
	// other half of the API's limit is for the values of variables.
	maxPartContent = email.MaxBatchContentBytes / 2
	// watchEvery is the time between two requests for the progress.
	watchEvery = 500 * time.Millisecond
	// lineEvery is the shortest time between two lines of progress, if the output is not a
	// terminal.
	lineEvery = 5 * time.Second
	// maxListed bounds the rows, problems and recipients that are listed.
	maxListed = 20
)

// batchRun sends one message to the recipients of a file.
type batchRun struct {
	*flags
	api *client.Client
	url string
	out io.Writer
	// textOut is for text: out, or standard error if out is for JSON.
	textOut io.Writer
	message client.Message
	parts   [][]csvRow
	sent    []client.SentBatch
	// refused counts the rows that a permissive batch left out; reasons has a line for each
	// of the first ones.
	refused int
	reasons []string
	// partErr is why no row of the last refused part could be sent.
	partErr error
	started time.Time
}

// sendBatch sends one message to all recipients of a file, and shows the progress.
func (f *flags) sendBatch(ctx context.Context, api *client.Client, url string, stdin io.Reader, out, errOut io.Writer) error {
	m, err := f.message(stdin)
	file, csvErr := csvFile{}, error(nil)
	if f.batch == "-" && (f.text == "-" || f.html == "-") {
		csvErr = errors.New("--batch: standard input is --text or --html already; put one of them into a file")
	} else {
		file, csvErr = readCSV(f.batch, stdin, usesOf(m))
	}
	if csvErr == nil && (!f.permissive || len(file.rows) == 0) {
		csvErr = file.err()
	}
	if err := errors.Join(err, csvErr); err != nil {
		return err
	}
	for _, note := range file.notes {
		fmt.Fprintln(errOut, note)
	}
	r := &batchRun{flags: f, api: api, url: url, out: out, textOut: out, message: m, parts: split(file.rows, len(m.Content.Text)+len(m.Content.HTML)), started: time.Now(),
		refused: len(file.bad), reasons: file.bad}
	if f.json {
		r.textOut = errOut
	}
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

// split divides the rows into parts of one request each. The same rows give the same parts, so
// that a repetition has the same idempotency keys.
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

// partKey is the idempotency key of a part: the key of the command, with a number if there are
// several parts.
func (r *batchRun) partKey(i int) client.IdempotencyKey {
	if len(r.parts) == 1 {
		return client.IdempotencyKey(r.key)
	}
	return client.IdempotencyKey(r.key + "-" + strconv.Itoa(i+1))
}

// preview checks all rows, and shows the copy of the first valid one.
func (r *batchRun) preview(ctx context.Context) error {
	var shown client.Preview
	copies, batches := 0, 0
	for i, part := range r.parts {
		p, err := r.api.PreviewBatch(ctx, r.request(part))
		if err != nil {
			if err := r.leaveOut(i, err); err != nil {
				return err
			}
			continue
		}
		r.note(part, p.Batch.Items)
		if copies == 0 {
			shown = p
		}
		copies, batches = copies+p.Batch.Accepted, batches+1
	}
	if copies == 0 {
		return r.partErr
	}
	if r.json {
		if err := writeJSON(r.out, shown); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(r.out, strings.ReplaceAll(shown.Source, "\r\n", "\n"))
		for _, c := range shown.Checks {
			if c.Level != "ok" {
				fmt.Fprintf(r.out, "%s: %s: %s\n", c.Level, c.Title, c.Detail)
			}
		}
		fmt.Fprintf(r.out, "Nothing was sent: this is the first of %s, in %s. Each has %d bytes or so.\n", plaintext.Count(copies, "copy", "copies"), plaintext.Count(batches, "batch", "batches"), shown.SizeBytes)
	}
	if r.listRefused(); r.refused > 0 {
		return exitNotDelivered
	}
	return nil
}

// leaveOut handles the error of a part. If a permissive batch was refused for all of its rows,
// it notes them and returns nil, so that the other parts are sent. It returns an explanation of
// every other error.
func (r *batchRun) leaveOut(i int, err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || !r.permissive || !onlyRows(e) {
		return errors.Join(r.explainPart(i, err), r.refusal(r.out, "", err))
	}
	r.partErr = r.explainPart(i, err)
	r.refused += len(r.parts[i])
	for _, f := range e.Fields {
		r.reasons = append(r.reasons, r.place(r.parts[i], f.Pointer)+": "+f.Detail)
	}
	return nil
}

// note adds the refused rows of a part to refused and reasons.
func (r *batchRun) note(part []csvRow, items []client.BatchItem) {
	for _, item := range items {
		if item.Error == nil {
			continue
		}
		r.refused++
		pointer, why := fmt.Sprintf("/recipients/%d", item.Index), item.Error.Detail
		if len(item.Error.Fields) > 0 {
			pointer, why = item.Error.Fields[0].Pointer, item.Error.Fields[0].Detail
		}
		r.reasons = append(r.reasons, r.place(part, pointer)+": "+why)
	}
}

// listRefused prints the first refused rows.
func (r *batchRun) listRefused() {
	if r.refused == 0 {
		return
	}
	fmt.Fprintf(r.textOut, "%s refused:\n", plaintext.Count(r.refused, "row", "rows"))
	for _, line := range r.reasons[:min(len(r.reasons), maxListed)] {
		fmt.Fprintln(r.textOut, line)
	}
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// accept sends the parts to the API, one after the other.
func (r *batchRun) accept(ctx context.Context) error {
	for i, part := range r.parts {
		sent, err := r.api.SendBatch(ctx, r.request(part), r.partKey(i))
		if err != nil {
			if err := r.leaveOut(i, err); err != nil {
				return err
			}
			continue
		}
		r.sent = append(r.sent, sent)
		r.note(part, sent.Items)
		if !r.json {
			accepted := "accepted"
			if sent.Replayed {
				accepted = "accepted before"
			}
			fmt.Fprintf(r.out, "%s %s: %s\n", sent.ID, accepted, plaintext.Count(sent.Accepted, "e-mail", "e-mails"))
		}
	}
	if len(r.sent) == 0 {
		return r.partErr
	}
	return nil
}

// onlyRows reports whether a batch was refused for its rows only.
func onlyRows(e *client.Error) bool {
	return e.Code == email.CodeInvalidRequest && len(e.Fields) > 0 &&
		!slices.ContainsFunc(e.Fields, func(f email.FieldError) bool { return !rowPointer.MatchString(f.Pointer) })
}

var rowPointer = regexp.MustCompile(`^/recipients/(\d+)(?:/variables/([^/]+)|/(\w+))?$`)

// place names the line and column of the file, or the flag, that a pointer into the request
// stands for.
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

// explainPart explains an error in terms of flags, lines and columns, and what to do about the
// parts that are already accepted.
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
		if more := len(lines) - maxListed; more > 0 {
			lines = append(lines[:maxListed], fmt.Sprintf("and %d more", more))
		}
		if !r.permissive && !r.dryRun && onlyRows(e) {
			lines = append(lines, "nothing of this batch was sent; --permissive sends what is good")
		}
		text = strings.Join(lines, "\n")
	default:
		text = r.explain(r.url, "", err).Error()
	}
	if len(r.sent) > 0 {
		text += fmt.Sprintf("\n%s accepted before that; --idempotency-key %s makes it safe to send the corrected file again, if the lines before stay as they are",
			plaintext.Count(len(r.sent), "batch was", "batches were"), r.key)
	}
	return errors.New(text)
}

// watch shows the progress of the batches until each e-mail is finished or waits for a later
// attempt. With --wait, it ends after that time.
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
					return nil, fmt.Errorf("the e-mails are accepted, but the request for their status failed: %s", err.Error())
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

// finish prints the outcome of the batches, and returns the exit code for it.
func (r *batchRun) finish(ctx context.Context, ps []client.BatchProgress) error {
	all := total{}
	for _, p := range ps {
		all.add(p)
	}
	if r.json {
		if err := writeJSON(r.out, ps); err != nil {
			return err
		}
		r.listRefused()
	} else {
		took := max(time.Since(r.started), time.Millisecond)
		fmt.Fprintf(r.out, "%s in %s: %s\n", plaintext.Count(all.all(), "e-mail", "e-mails"), took.Round(100*time.Millisecond), all.summary())
		if !all.nextAt.IsZero() {
			fmt.Fprintf(r.out, "the next attempt is at %s\n", all.nextAt.Local().Format(time.RFC3339))
		}
		r.listRefused()
		if err := r.listFailed(ctx, ps); err != nil {
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

// listFailed prints the first recipients that will not get the e-mail.
func (r *batchRun) listFailed(ctx context.Context, ps []client.BatchProgress) error {
	left := maxListed
	for _, p := range ps {
		if p.Count(email.StatusBounced)+p.Count(email.StatusFailed)+p.Count(email.StatusCanceled) == 0 {
			continue
		}
		filter := email.Filter{BatchID: p.ID, Statuses: []email.Status{email.StatusBounced, email.StatusFailed, email.StatusCanceled}}
		for e, err := range r.api.List(ctx, filter, client.PageSize(maxListed)) {
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
