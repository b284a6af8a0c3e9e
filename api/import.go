package api

import (
	"context"
	"errors"
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
