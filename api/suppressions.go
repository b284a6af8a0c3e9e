package api

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/suppression"
)

// Suppressions stores the suppression lists. Each call sees that of one customer only.
type Suppressions interface {
	// AddSuppression changes the entry that the list has for the same address, scope and target, if
	// there is one; created is false then.
	AddSuppression(ctx context.Context, customerID string, e suppression.Entry) (out suppression.Entry, created bool, err error)
	ListSuppressions(ctx context.Context, customerID string, f suppression.Filter, after email.Cursor, limit int) ([]suppression.Entry, *email.Cursor, error)
	Suppression(ctx context.Context, customerID, id string) (suppression.Entry, error)
	// DeleteSuppression tells how many e-mails have had a recipient ended by it in the last 30 days.
	DeleteSuppression(ctx context.Context, customerID, id string) (e suppression.Entry, emails int, err error)
	// CheckSuppressions returns, for each address, the entries that are about it now.
	CheckSuppressions(ctx context.Context, customerID string, addresses []string) ([][]suppression.Entry, error)
	// StoreLot stores a part of a file in one transaction.
	StoreLot(ctx context.Context, customerID string, lot suppression.Lot) (suppression.Counts, error)
	AuditImport(ctx context.Context, customerID string, r suppression.Report) error
	// ExportSuppressions reads the next entries for a file; next is nil behind the last ones.
	ExportSuppressions(ctx context.Context, customerID string, after email.Cursor, limit int) (es []suppression.Entry, next *email.Cursor, err error)
}

// suppressionHandlers answers /v1.0/suppressions.
type suppressionHandlers struct {
	store   Suppressions
	respond responder
	now     func() time.Time
	log     *slog.Logger
}

type suppressionJSON struct {
	ID string `json:"id"`
	// Address is null once it is erased.
	Address   *string            `json:"address"`
	Scope     suppression.Scope  `json:"scope"`
	Stream    *string            `json:"stream"`
	Topic     *string            `json:"topic"`
	Reason    suppression.Reason `json:"reason"`
	Source    suppression.Source `json:"source"`
	EmailID   *string            `json:"email_id"`
	Note      string             `json:"note"`
	ExpiresAt *string            `json:"expires_at"`
	CreatedAt *string            `json:"created_at"`
}

func newSuppressionJSON(e suppression.Entry) suppressionJSON {
	return suppressionJSON{
		ID: e.ID, Address: orNull(e.Address), Scope: e.Scope, Stream: orNull(e.Stream()), Topic: orNull(e.Topic()), Reason: e.Reason, Source: e.Source,
		EmailID: orNull(e.EmailID), Note: e.Note, ExpiresAt: moment(e.ExpiresAt), CreatedAt: moment(e.CreatedAt),
	}
}

// rules check entries that have one of some reasons.
func (h *suppressionHandlers) rules(reasons []suppression.Reason) suppression.Rules {
	return suppression.Rules{
		Address: func(a string) (string, error) {
			spec, err := intake.Address(a, "")
			return spec.Email, err
		},
		Domain: intake.Domain, Reasons: reasons, Now: h.now(),
	}
}

type suppressionRequest struct {
	Address   string  `json:"address"`
	Scope     string  `json:"scope"`
	Stream    string  `json:"stream"`
	Topic     string  `json:"topic"`
	Reason    string  `json:"reason"`
	Note      string  `json:"note"`
	ExpiresAt *string `json:"expires_at"`
}

func (h *suppressionHandlers) post(c *gin.Context) (int, any, error) {
	var in suppressionRequest
	if err := decode(c, &in); err != nil {
		return 0, nil, err
	}
	draft := suppression.Draft{Address: in.Address, Scope: in.Scope, Stream: in.Stream, Topic: in.Topic, Reason: in.Reason, Note: in.Note}
	var bad []suppression.Problem
	if in.ExpiresAt != nil {
		at, err := time.Parse(time.RFC3339, *in.ExpiresAt)
		if err != nil || !storableTime(at) {
			bad = append(bad, suppression.Problem{Member: "expires_at", Code: intake.CodeInvalid, Detail: "give a time in RFC 3339 format, as 2026-01-02T15:04:05Z, or leave it out for an entry that does not end"})
		} else {
			draft.ExpiresAt = at.UTC().Truncate(time.Microsecond)
		}
	}
	e, problems := h.rules(suppression.Given()).Entry(draft)
	if bad = append(bad, problems...); len(bad) > 0 {
		return 0, nil, refusedEntry(bad)
	}
	e.Source = suppression.FromCustomer
	e, created, err := h.store.AddSuppression(c.Request.Context(), customerOf(c).ID, e)
	if err != nil {
		return 0, nil, err
	}
	if created {
		return http.StatusCreated, newSuppressionJSON(e), nil
	}
	return http.StatusOK, newSuppressionJSON(e), nil
}

// refusedEntry refuses a request for what is wrong with its entry.
func refusedEntry(problems []suppression.Problem) error {
	f := invalid("/"+problems[0].Member, problems[0].Code, problems[0].Detail)
	for _, p := range problems[1:] {
		f.Fields = append(f.Fields, email.FieldError{Pointer: "/" + p.Member, Code: p.Code, Detail: p.Detail})
	}
	return f
}

// suppressionFilters are the query parameters that filter entries. Each sets its part of a Filter, or
// returns a hint what to give instead.
var suppressionFilters = map[string]func(h *suppressionHandlers, f *suppression.Filter, v string) (hint string){
	"address": func(h *suppressionHandlers, f *suppression.Filter, v string) string {
		var problem *suppression.Problem
		if f.Address, problem = h.rules(nil).NormalAddress(v); problem != nil {
			return problem.Detail
		}
		return ""
	},
	"reason": func(_ *suppressionHandlers, f *suppression.Filter, v string) string {
		return choice(&f.Reason, v, suppression.Reasons())
	},
	"scope": func(_ *suppressionHandlers, f *suppression.Filter, v string) string {
		return choice(&f.Scope, v, suppression.Scopes())
	},
	"source": func(_ *suppressionHandlers, f *suppression.Filter, v string) string {
		return choice(&f.Source, v, suppression.Sources())
	},
	"stream": func(_ *suppressionHandlers, f *suppression.Filter, v string) string {
		return choice(&f.Stream, v, suppression.Streams())
	},
	"topic": func(_ *suppressionHandlers, f *suppression.Filter, v string) string {
		if f.Topic = v; !suppression.TopicShape.MatchString(v) {
			return topicHint
		}
		return ""
	},
}

const topicHint = "give the name of a topic: 1 to 50 of the characters a-z 0-9 -"

// choice reads one of a few words.
func choice[S ~string](into *S, v string, words []S) (hint string) {
	if *into = S(v); !slices.Contains(words, *into) {
		return "give " + suppression.OneOf(words)
	}
	return ""
}

func (h *suppressionHandlers) filter(c *gin.Context) (f suppression.Filter, err error) {
	known := []string{"page_size", "page_token", "customer_id"}
	for name := range suppressionFilters {
		known = append(known, name)
	}
	if err := parameters(c, "there are the filters address, reason, scope, source, stream and topic", known...); err != nil {
		return f, err
	}
	query := c.Request.URL.Query()
	for name, set := range suppressionFilters {
		if len(query[name]) > 1 {
			return f, invalid(name, "duplicate", "give the parameter once")
		}
		if v := query.Get(name); v != "" {
			if hint := set(h, &f, v); hint != "" {
				return f, invalid(name, intake.CodeInvalid, hint)
			}
		}
	}
	if f.Stream != "" && f.Topic != "" {
		return f, invalid("topic", intake.CodeUnsupported, "an entry covers a stream or a topic: leave one of them out")
	}
	return f, nil
}

func (h *suppressionHandlers) list(c *gin.Context) (int, any, error) {
	f, err := h.filter(c)
	if err != nil {
		return 0, nil, err
	}
	filtered := func(ctx context.Context, customerID string, after email.Cursor, size int) ([]suppression.Entry, *email.Cursor, error) {
		return h.store.ListSuppressions(ctx, customerID, f, after, size)
	}
	return listSmall(c, customerOf(c).ID, filtered, newSuppressionJSON)
}

func (h *suppressionHandlers) get(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "suppression")
	if err != nil {
		return 0, nil, err
	}
	e, err := h.store.Suppression(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newSuppressionJSON(e), nil
}

// deletedSuppressionJSON is an entry as it was.
type deletedSuppressionJSON struct {
	suppressionJSON
	// Emails is how many e-mails have had a recipient ended by it in the last 30 days.
	Emails int `json:"emails_30d"`
}

func (h *suppressionHandlers) delete(c *gin.Context) (int, any, error) {
	id, err := pathID(c, "id", "suppression")
	if err != nil {
		return 0, nil, err
	}
	e, emails, err := h.store.DeleteSuppression(c.Request.Context(), customerOf(c).ID, id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, deletedSuppressionJSON{newSuppressionJSON(e), emails}, nil
}

const (
	// maxChecked limits the addresses of a check.
	maxChecked = 1000
	// maxCheckBody limits its body, in bytes: an address may be written with escapes.
	maxCheckBody = 1 << 20
	// checkTimes is the memory of a check, in sizes of its body: the body, the addresses, the statement.
	checkTimes = 4
)

type checkRequest struct {
	Addresses []string `json:"addresses"`
	Stream    *string  `json:"stream"`
	Topic     string   `json:"topic"`
}

type checkedJSON struct {
	// Address is normalised.
	Address string `json:"address"`
	// Suppressed: an entry covers the stream and topic of the request.
	Suppressed   bool              `json:"suppressed"`
	Suppressions []suppressionJSON `json:"suppressions"`
}

type checkAnswer struct {
	Result []checkedJSON `json:"result"`
}

func (h *suppressionHandlers) check(c *gin.Context) (int, any, error) {
	addresses, stream, topic, err := h.checkRequest(c)
	if err != nil {
		return 0, nil, err
	}
	if err := reservePage(c, smallEntry*int64(len(addresses))); err != nil {
		return 0, nil, err
	}
	found, err := h.store.CheckSuppressions(c.Request.Context(), customerOf(c).ID, addresses)
	if err != nil {
		return 0, nil, err
	}
	out := checkAnswer{Result: make([]checkedJSON, len(addresses))}
	for i, entries := range found {
		slices.SortFunc(entries, func(a, b suppression.Entry) int {
			return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
		})
		covers := func(e suppression.Entry) bool { return e.Covers(stream, topic) }
		out.Result[i] = checkedJSON{addresses[i], slices.ContainsFunc(entries, covers), each(entries, newSuppressionJSON)}
	}
	return http.StatusOK, out, nil
}

// checkRequest reads the body of a check.
func (h *suppressionHandlers) checkRequest(c *gin.Context) (addresses []string, stream email.Stream, topic string, err error) {
	body, err := readBody(c, maxCheckBody, checkTimes)
	if err != nil {
		return nil, "", "", err
	}
	if err := intake.CheckMembers(body, intake.Limits{MaxRecipients: maxChecked}); err != nil {
		return nil, "", "", err
	}
	var in checkRequest
	if err := intake.UnmarshalPart(body, &in, false); err != nil {
		return nil, "", "", err
	}
	checks := intake.NewChecks(intake.Limits{})
	stream = intake.OneOf(checks, "/stream", in.Stream, email.StreamTransactional, email.StreamBroadcast)
	if in.Topic != "" && !suppression.TopicShape.MatchString(in.Topic) {
		checks.Refuse("/topic", intake.CodeInvalid, topicHint)
	}
	if len(in.Addresses) == 0 {
		checks.Refuse("/addresses", intake.CodeMissing, "give the addresses to check, at most %d", maxChecked)
	}
	for i, a := range in.Addresses {
		spec, err := intake.Address(a, "")
		if err != nil {
			checks.Refuse("/addresses/"+strconv.Itoa(i), intake.CodeInvalidAddress, "%s", err)
		}
		addresses = append(addresses, spec.Email)
	}
	return addresses, stream, in.Topic, checks.Err()
}

// export answers with the list as a file. Each part is read by a statement of its own, and is on disk while
// the client reads it. So a slow client holds neither memory nor a connection. If a later part
// cannot be read, the connection is cut: the client sees that the file is not complete.
func (h *suppressionHandlers) export(c *gin.Context) {
	if err := parameters(c, "an export has all entries", "customer_id"); err != nil {
		h.respond.problem(c, err)
		return
	}
	after := &email.Cursor{}
	for first := true; after != nil; first = false {
		var err error
		after, err = h.exportPart(c, *after, first)
		switch {
		case err == nil:
		case first && !c.Writer.Written():
			h.respond.problem(c, err)
			return
		default:
			h.log.WarnContext(c.Request.Context(), "http.interrupted", "route", c.FullPath(), "request_id", requestID(c), "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}

// exportPart sends the next entries. next is nil behind the last ones.
func (h *suppressionHandlers) exportPart(c *gin.Context, after email.Cursor, first bool) (next *email.Cursor, err error) {
	part := h.respond.newAnswer(c)
	defer h.respond.closeAnswer(c, part)
	if err := reservePage(c, streamBytes/pageTimes); err != nil {
		return nil, err
	}
	entries, next, err := h.store.ExportSuppressions(c.Request.Context(), customerOf(c).ID, after, suppression.ExportLot)
	if err != nil {
		return nil, err
	}
	file, err := suppression.NewExport(part, first)
	if err == nil {
		err = file.Write(entries)
	}
	if err == nil {
		err = part.settle()
	}
	if err != nil {
		return nil, noDisk(err)
	}
	releaseAll(c)
	if first {
		sandboxed(c)
		c.Header("Content-Type", "text/csv; charset=utf-8; header=present")
		c.Header("Content-Disposition", `attachment; filename="suppressions.csv"`)
		c.Status(http.StatusOK)
	}
	_, err = io.CopyBuffer(onlyWriter{c.Writer}, part.reader(), make([]byte, sendBytes))
	if err != nil {
		return nil, fmt.Errorf("send a part: %w", err)
	}
	return next, nil
}
