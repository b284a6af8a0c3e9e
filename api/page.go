package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/portion"
)

// maxPageSize is the default page size, and the largest one.
const maxPageSize = 100

// pageSize reads page_size. It returns maxPageSize for a larger one, as VoIPBIN's API does.
func pageSize(c *gin.Context) (int, error) {
	raw := c.Query("page_size")
	if raw == "" {
		return maxPageSize, nil
	}
	n, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || n == 0 {
		return 0, invalid("page_size", "invalid", "give a whole number from 1 to 100")
	}
	return int(min(n, maxPageSize)), nil
}

// pageOf reads page_size and page_token. after is the zero Cursor on the first page.
func pageOf(c *gin.Context) (after email.Cursor, size int, err error) {
	if size, err = pageSize(c); err != nil {
		return after, 0, err
	}
	raw := c.Query("page_token")
	if raw == "" {
		return after, size, nil
	}
	bad := invalid("page_token", "invalid", "give the next_page_token of an earlier answer, or a time like 2025-03-14 19:04:01.160250")
	at, id, tied := strings.Cut(raw, ",")
	if after.At, err = time.Parse("2006-01-02 15:04:05.999999", at); err != nil || !storableTime(after.At) {
		return after, 0, bad
	}
	if tied {
		u, err := uuid.Parse(id)
		if err != nil {
			return after, 0, bad
		}
		after.ID = u.String()
	}
	return after, size, nil
}

// pageToken returns the page_token for a cursor, empty for nil, which is the end of the list.
func pageToken(next *email.Cursor) string {
	switch {
	case next == nil:
		return ""
	case next.ID == "":
		return next.At.UTC().Format(email.TimestampLayout)
	}
	return next.At.UTC().Format(email.TimestampLayout) + "," + next.ID
}

// listAnswer is a page of a list whose entries have a time and an id.
type listAnswer[T any] struct {
	Result        []T    `json:"result"`
	NextPageToken string `json:"next_page_token"`
}

// listed returns a page of what was read, with each entry converted by answer.
func listed[T, A any](read []T, next *email.Cursor, answer func(T) A) listAnswer[A] {
	return listAnswer[A]{Result: each(read, answer), NextPageToken: pageToken(next)}
}

// each converts what was read.
func each[T, A any](read []T, answer func(T) A) []A {
	out := make([]A, len(read))
	for i, r := range read {
		out[i] = answer(r)
	}
	return out
}

// listPage answers with the page of a customer's list that the request names. read reads it from the
// store.
func listPage[T, A any](c *gin.Context, customerID string, read func(context.Context, string, email.Cursor, int) ([]T, *email.Cursor, error), answer func(T) A) (int, any, error) {
	after, size, err := pageOf(c)
	if err != nil {
		return 0, nil, err
	}
	entries, next, err := read(c.Request.Context(), customerID, after, size)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(entries, next, answer), nil
}

// listSmall is listPage for a list whose entries have at most smallEntry bytes. It reserves the memory of the page.
func listSmall[T, A any](c *gin.Context, customerID string, read func(context.Context, string, email.Cursor, int) ([]T, *email.Cursor, error), answer func(T) A) (int, any, error) {
	return listPage(c, customerID, func(ctx context.Context, customerID string, after email.Cursor, size int) ([]T, *email.Cursor, error) {
		if err := reservePage(c, smallEntry*int64(size)); err != nil {
			return nil, nil, err
		}
		return read(ctx, customerID, after, size)
	}, answer)
}

// numberedAnswer is a page of a list whose entries are numbered. Most lists have one page, so the
// token is left out if there is none.
type numberedAnswer[T any] struct {
	Result        []T    `json:"result"`
	NextPageToken string `json:"next_page_token,omitempty"`
}

// numberedPage is the least number of entries of a numbered page, unless the list ends or its bytes
// end it.
const numberedPage = 100

// numberedOfEmail answers with the page of a numbered list of the e-mail that the path names. read
// reads it from the store.
func numberedOfEmail[T, A any, N int | int64](c *gin.Context, read func(ctx context.Context, customerID, emailID string, after N) ([]T, N, error), answer func(T) A) (int, any, error) {
	id, err := pathID(c, "id", "e-mail")
	if err != nil {
		return 0, nil, err
	}
	after, err := numberToken(c)
	if err != nil {
		return 0, nil, err
	}
	if err := reservePage(c, portion.Page(numberedPage)); err != nil {
		return 0, nil, err
	}
	entries, next, err := read(c.Request.Context(), customerOf(c).ID, id, N(after))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, numberedAnswer[A]{Result: each(entries, answer), NextPageToken: tokenOf(int64(next))}, nil
}

// numberToken reads the page_token of a list whose entries are numbered. It returns 0 on the
// first page.
func numberToken(c *gin.Context) (int64, error) {
	raw := c.Query("page_token")
	if raw == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(raw, 10, 32)
	if err != nil || n < 0 {
		return 0, invalid("page_token", "invalid", "give the next_page_token of an earlier answer")
	}
	return n, nil
}

// tokenOf returns the page_token for a number, empty for 0, which is the end of the list.
func tokenOf(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
