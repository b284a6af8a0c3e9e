package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// upload sends a file as a form does, and gives its id.
func (s *stack) upload(filename string, content []byte) string {
	s.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", filename)
	require.NoError(s.t, err)
	_, err = part.Write(content)
	require.NoError(s.t, errors.Join(err, form.Close()))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.env["POSTRIDER_URL"]+"/v1.0/files", bytes.NewReader(body.Bytes()))
	require.NoError(s.t, err)
	req.Header.Set("Authorization", "Bearer "+s.env["POSTRIDER_ACCESSKEY"])
	req.Header.Set("Content-Type", form.FormDataContentType())
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	data, err := io.ReadAll(res.Body)
	require.NoError(s.t, errors.Join(err, res.Body.Close()))
	check(s.t, s.env["POSTRIDER_URL"], body.Bytes(), res, data)
	require.Equal(s.t, http.StatusCreated, res.StatusCode, string(data))
	var f struct{ ID string }
	require.NoError(s.t, json.Unmarshal(data, &f))
	return f.ID
}

// attached sends an e-mail with attachments.
func (s *stack) attached(attachments ...client.Attachment) client.Email {
	s.t.Helper()
	m := mailTo("att")
	m.Attachments = attachments
	return s.send(m)
}

// links sends an uploaded file and what is behind URLs, one of which fails at
// first; and what cannot be had.
func (s *stack) links() {
	pdf := append([]byte("%PDF-1.4\n"), bytes.Repeat([]byte{0, 1, 2, 255}, 200_000)...)
	var busy atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusGone)
			return
		case "/program":
			w.Header().Set("Content-Disposition", `attachment; filename="setup.exe"`)
		case "/busy.pdf":
			if busy.Add(1) == 1 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		w.Header().Set("Content-Type", "application/pdf")
		_, _ = w.Write(pdf) // a client that does not listen fails the test by itself
	}))
	s.t.Cleanup(srv.Close)

	file := s.upload("terms.pdf", pdf)
	m := s.attached(client.Attachment{ReferenceType: email.ReferenceFile, ReferenceID: file}, client.Attachment{URL: srv.URL + "/busy.pdf?key=1"},
		client.Attachment{URL: srv.URL + "/gone", Optional: true})
	got := s.await(m.ID, email.StatusDelivered)
	require.Equal(s.t, int32(2), busy.Load(), "tried again")
	msgs := s.arrived(m.ID)
	require.Len(s.t, msgs, 1)
	for index := range 2 {
		body, err := s.api.MessageAttachment(s.t.Context(), s.mailbox(), msgs[0].ID, index)
		require.NoError(s.t, err)
		require.True(s.t, bytes.Equal(pdf, body))
	}
	_, err := s.api.MessageAttachment(s.t.Context(), s.mailbox(), msgs[0].ID, 2)
	var none *client.Error
	require.ErrorAs(s.t, err, &none)
	require.Equal(s.t, email.CodeNotFound, none.Code)
	sum := sha256.Sum256(pdf)
	for i, name := range []string{"terms.pdf", "busy.pdf"} {
		a := got.Attachments[i]
		require.Equal(s.t, []any{name, "application/pdf", int64(len(pdf)), hex.EncodeToString(sum[:])}, []any{a.Filename, a.Type, a.Size, a.SHA256})
	}
	require.Equal(s.t, email.ReferenceURL, got.Attachments[1].ReferenceType)
	require.Empty(s.t, got.Attachments[1].ReferenceID)
	require.Equal(s.t, srv.URL+"/busy.pdf?key=1", got.Attachments[1].URL)
	require.Contains(s.t, got.Attachments[2].Problem, "answered 410")

	for path, why := range map[string]string{"/gone": "answered 410", "/program": ".exe"} {
		m := s.attached(client.Attachment{URL: srv.URL + path})
		got := s.await(m.ID, email.StatusFailed)
		require.Equal(s.t, email.DetailAttachment, got.StatusDetail)
		require.Contains(s.t, got.Recipients[0].Text, why)
		require.Empty(s.t, s.arrived(m.ID), "never sent without its attachment")
	}
}
