package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/suppression"
)

// importTypes are the types of a file to import. An empty one is text/csv.
var importTypes = []string{"", "text/csv", "text/plain", "application/x-ndjson", "application/jsonl"}

type lineProblemJSON struct {
	Line   int    `json:"line"`
	Column string `json:"column"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

type importJSON struct {
	Format    suppression.Format `json:"format"`
	Read      int                `json:"read"`
	Added     int                `json:"added"`
	Changed   int                `json:"changed"`
	Unchanged int                `json:"unchanged"`
	Refused   int                `json:"refused"`
	// Errors are those of the first refused lines, see suppression.MaxProblems.
	Errors []lineProblemJSON `json:"errors"`
}

// importFile receives a file into a spool file, then stores its entries, a lot and a transaction at a
// time. If the client goes away before its file is complete, nothing is stored; later, what is stored by
// then stays.
func (h *suppressionHandlers) importFile(c *gin.Context) (status int, answer any, err error) {
	in, err := h.importOf(c)
	if err != nil {
		return 0, nil, err
	}
	if err := reserve(c, budgetOf(c).bodies, maxInMemory); err != nil {
		return 0, nil, err
	}
	file := budgetOf(c).spool.Spool(ownerOf(c), suppression.MaxImportBytes)
	defer func() { err = errors.Join(err, file.Close()) }()
	source := &incoming{from: http.MaxBytesReader(c.Writer, c.Request.Body, suppression.MaxImportBytes)}
	if _, err := file.ReadFrom(&suppression.LineLimit{From: source}); err != nil {
		return 0, nil, importFailure(source.err, err)
	}
	if err := file.Settle(); err != nil {
		return 0, nil, noDisk(err)
	}
	release(c, budgetOf(c).bodies)
	if err := reserve(c, budgetOf(c).work, streamBytes); err != nil {
		return 0, nil, err
	}
	report, err := in.Read(c.Request.Context(), file.Reader())
	if err := h.imported(c, report); err != nil {
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newImportJSON(report), nil
}

// importOf reads the parameters and the type of a file to import.
func (h *suppressionHandlers) importOf(c *gin.Context) (in suppression.Import, err error) {
	if err := parameters(c, "there are format and reason", "format", "reason", "customer_id"); err != nil {
		return in, err
	}
	in = suppression.Import{Rules: h.rules(suppression.Reasons()), Put: func(ctx context.Context, lot suppression.Lot) (suppression.Counts, error) {
		// The connection is for one lot: an import would keep it from others for a minute.
		if err := reserveQuery(c); err != nil {
			return suppression.Counts{}, err
		}
		defer release(c, budgetOf(c).slowQueries)
		return h.store.StoreLot(context.WithoutCancel(ctx), customerOf(c).ID, lot)
	}}
	if v := c.Query("format"); v != "" {
		if hint := choice(&in.Format, v, suppression.Formats()); hint != "" {
			return in, invalid("format", intake.CodeInvalid, hint)
		}
	}
	if v := c.Query("reason"); v != "" {
		if hint := choice(&in.Reason, v, suppression.Reasons()); hint != "" {
			return in, invalid("reason", intake.CodeInvalid, hint)
		}
	}
	kind, options, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if c.GetHeader("Content-Type") == "" {
		err = nil
	}
	charset := strings.ToLower(options["charset"])
	if err != nil || !slices.Contains(importTypes, kind) || charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return in, email.Fail(email.CodeUnsupportedMediaType, "send the file as text/csv in UTF-8; with curl: --header 'Content-Type: text/csv' --data-binary @file.csv")
	}
	if e := c.GetHeader("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return in, email.Fail(email.CodeUnsupportedMediaType, "send the file as it is, without a Content-Encoding")
	}
	if c.Request.ContentLength > suppression.MaxImportBytes {
		return in, importTooLarge()
	}
	return in, nil
}

func importTooLarge() error {
	return email.Fail(email.CodeTooLarge, "the file is larger than %d bytes: split it, and import the parts", suppression.MaxImportBytes)
}

// importFailure returns the failure to answer with if a file was not received. source is the error of
// reading the body, nil if another one ended it.
func importFailure(source, err error) error {
	_, tooLarge := errors.AsType[*http.MaxBytesError](source)
	switch {
	case tooLarge:
		return importTooLarge()
	case source != nil:
		return bodyFailure(source)
	case errors.Is(err, suppression.ErrTooManyLines):
		return email.Fail(email.CodeTooLarge, "the file has more than %d lines besides its header: split it, and import the parts", suppression.MaxImportLines)
	}
	return noDisk(err)
}

// imported notes what an import has done, of which a failure may have been the end.
func (h *suppressionHandlers) imported(c *gin.Context, r suppression.Report) error {
	if r.Read == 0 {
		return nil
	}
	ctx := context.WithoutCancel(c.Request.Context())
	h.log.InfoContext(ctx, "suppressions.imported", "customer_id", customerOf(c).ID, "request_id", requestID(c), "format", r.Format,
		"read", r.Read, "added", r.Added, "changed", r.Changed, "unchanged", r.Unchanged, "refused", r.Refused)
	return h.store.AuditImport(ctx, customerOf(c).ID, r)
}

func newImportJSON(r suppression.Report) importJSON {
	return importJSON{
		Format: r.Format, Read: r.Read, Added: r.Added, Changed: r.Changed, Unchanged: r.Unchanged, Refused: r.Refused,
		Errors: each(r.Problems, func(p suppression.LineProblem) lineProblemJSON { return lineProblemJSON(p) }),
	}
}

// exportLot is how many entries an export reads at once.
const exportLot = 5000

// export answers with the list as a file. Each part is read by a statement of its own and held on disk
// while the client reads it, so that a slow client holds neither memory nor a connection. If a later part
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
	entries, next, err := h.store.ExportSuppressions(c.Request.Context(), customerOf(c).ID, after, exportLot)
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
