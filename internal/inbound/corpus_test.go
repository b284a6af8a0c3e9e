package inbound

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/mailbox"
)

// specimen is a message of testdata/corpus and what is to be read in it. The files
// there are named for what their messages are about.
type specimen struct {
	area string

	Name string `json:"name"`
	// Raw are the lines of the message, CRLF between them.
	Raw []string `json:"raw"`
	// Bytes is "latin1" where each character stands for one byte, else the lines are
	// UTF-8.
	Bytes string `json:"bytes"`
	// Want holds what is compared: any of text, html, subject, date, from, to, cc,
	// reply_to, attachments and problems.
	Want map[string]json.RawMessage `json:"want"`
}

func (s specimen) message() []byte {
	text := strings.Join(s.Raw, "\r\n")
	if s.Bytes != "latin1" {
		return []byte(text)
	}
	var raw []byte
	for _, r := range text {
		raw = append(raw, byte(r))
	}
	return raw
}

func corpus(t testing.TB) []specimen {
	t.Helper()
	files, err := filepath.Glob("testdata/corpus/*.json")
	require.NoError(t, err)
	var all []specimen
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var list []specimen
		require.NoError(t, json.Unmarshal(text, &list), file)
		for _, s := range list {
			s.area = strings.TrimSuffix(filepath.Base(file), ".json")
			require.NotEmpty(t, s.Want, s.Name)
			all = append(all, s)
		}
	}
	require.Greater(t, len(all), 250)
	return all
}

// reading is what is compared of a message, in the form of the corpus.
type reading struct {
	Text        string       `json:"text"`
	HTML        string       `json:"html"`
	Subject     string       `json:"subject"`
	Date        *string      `json:"date"`
	From        [][2]string  `json:"from"`
	To          [][2]string  `json:"to"`
	Cc          [][2]string  `json:"cc"`
	ReplyTo     [][2]string  `json:"reply_to"`
	Attachments []attachment `json:"attachments"`
	Problems    []string     `json:"problems"`
}

type attachment struct {
	Filename    string `json:"filename"`
	Type        string `json:"type"`
	Disposition string `json:"disposition"`
	Size        int64  `json:"size"`
	ContentID   string `json:"content_id,omitempty"`
}

func read(t testing.TB, raw []byte) reading {
	t.Helper()
	p, err := Parse(raw)
	require.NoError(t, err)
	r := reading{
		Text: trimEnd(p.Text), HTML: trimEnd(p.HTML), Subject: p.Subject,
		From: pairs(p.From), To: pairs(p.To), Cc: pairs(p.Cc), ReplyTo: pairs(p.ReplyTo), Problems: p.Problems, Attachments: []attachment{},
	}
	if !p.DatedAt.IsZero() {
		at := p.DatedAt.Format(time.RFC3339)
		r.Date = &at
	}
	if r.Problems == nil {
		r.Problems = []string{}
	}
	for _, a := range p.Attachments {
		r.Attachments = append(r.Attachments, attachment{a.Filename, a.Type, a.Disposition, a.Size, a.ContentID})
	}
	return r
}

// trimEnd takes the last line end away: messages differ in whether they have one.
func trimEnd(s string) string { return strings.TrimRight(s, "\r\n") }

func pairs(list []mailbox.Address) [][2]string {
	out := [][2]string{}
	for _, a := range list {
		out = append(out, [2]string{a.Name, a.Email})
	}
	return out
}

// members are the JSON members of a reading by name.
func members(t testing.TB, r any) map[string]json.RawMessage {
	t.Helper()
	text, err := json.Marshal(r)
	require.NoError(t, err)
	var m map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &m))
	return m
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	for _, s := range corpus(t) {
		t.Run(s.area+": "+s.Name, func(t *testing.T) {
			t.Parallel()
			raw := s.message()
			got := members(t, read(t, raw))
			for name, want := range s.Want {
				require.Contains(t, got, name)
				require.JSONEq(t, string(want), string(got[name]), name)
			}
			// A list shows of a message what the message shows.
			p, err := Parse(raw)
			require.NoError(t, err)
			require.Equal(t, p.Subject, Summary(raw).Subject)
		})
	}
}
