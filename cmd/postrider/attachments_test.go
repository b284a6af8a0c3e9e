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
)

type attachedJSON struct {
	Attachments []struct {
		ReferenceType string `json:"reference_type"`
		ReferenceID   string `json:"reference_id"`
		URL           string
		Filename      string
		Type          string
		Size          int
		SHA256        string
		Problem       string
	}
}

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

// attached posts an e-mail with attachments.
func (s *stack) attached(attachments string) mailJSON {
	s.t.Helper()
	return s.post(`{"from":{"email":"demo@example.com"},"to":[{"email":"att@example.net"}],"subject":"attached","content":"x","attachments":[` + attachments + `]}`)
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
	m := s.attached(`{"reference_type":"file","reference_id":"` + file + `"},{"url":"` + srv.URL + `/busy.pdf?key=1"},
		{"url":"` + srv.URL + `/gone","optional":true}`)
	s.await(m.ID, "delivered")
	require.Equal(s.t, int32(2), busy.Load(), "tried again")
	msgs := s.arrived(m.ID)
	require.Len(s.t, msgs, 1)
	for _, index := range []string{"0", "1"} {
		status, body := s.call("GET", s.inbox()+"/"+msgs[0].ID+"/attachments/"+index, "")
		require.Equal(s.t, http.StatusOK, status)
		require.True(s.t, bytes.Equal(pdf, body))
	}
	status, _ := s.call("GET", s.inbox()+"/"+msgs[0].ID+"/attachments/2", "")
	require.Equal(s.t, http.StatusNotFound, status)
	_, data := s.call("GET", "/v1.0/emails/"+m.ID, "")
	var got attachedJSON
	require.NoError(s.t, json.Unmarshal(data, &got))
	sum := sha256.Sum256(pdf)
	for i, name := range []string{"terms.pdf", "busy.pdf"} {
		a := got.Attachments[i]
		require.Equal(s.t, []any{name, "application/pdf", len(pdf), hex.EncodeToString(sum[:])}, []any{a.Filename, a.Type, a.Size, a.SHA256})
	}
	require.Equal(s.t, "url  "+srv.URL+"/busy.pdf?key=1", got.Attachments[1].ReferenceType+" "+got.Attachments[1].ReferenceID+" "+got.Attachments[1].URL)
	require.Contains(s.t, got.Attachments[2].Problem, "answered 410")

	for path, why := range map[string]string{"/gone": "answered 410", "/program": ".exe"} {
		m := s.attached(`{"url":"` + srv.URL + path + `"}`)
		got := s.await(m.ID, "failed")
		require.Equal(s.t, "attachment", got.StatusDetail)
		require.Contains(s.t, got.Recipients[0].Text, why)
		require.Empty(s.t, s.arrived(m.ID), "never sent without its attachment")
	}
}
