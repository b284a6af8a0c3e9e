package render_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/render"
)

// contentsOwn are rules that the client's text and pictures meet, or the missing path of a
// message that was not sent: the composer has no part in them.
var contentsOwn = regexp.MustCompile(`^(NO_RECEIVED|NO_RELAYS|HTML_MESSAGE|T_REMOTE_IMAGE|TVD_SPACE_RATIO|HTML_IMAGE_ONLY_\d+|HTML_SHORT_LINK_IMG_\d|HTML_IMAGE_RATIO_\d+|UNPARSEABLE_RELAY|T_.*)$`)

// SpamAssassin calls every text beside HTML without words another one (its rule
// MPART_ALT_DIFF), and a message without that text MIME_HTML_ONLY and EMPTY_MESSAGE.
const imageOnly = "only an image"

// TestSpamAssassinFindsNothing has SpamAssassin's local rules look at typical messages. It
// is skipped where that is not installed, unless POSTRIDER_TEST_SPAMASSASSIN is "required".
func TestSpamAssassinFindsNothing(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("spamassassin")
	if err != nil && os.Getenv("POSTRIDER_TEST_SPAMASSASSIN") != "required" {
		t.Skip("spamassassin is not installed")
	}
	require.NoError(t, err)
	rule := regexp.MustCompile(`(?m)^ *-?[0-9.]+ ([A-Z][A-Z0-9_]+) `)
	for name, members := range map[string]string{
		"order":           `"subject":"Your order 12345","content":{"text":"Thank you for your order 12345.\n\nIt arrives on Monday.","html":"<p>Thank you for your order 12345.</p><p>It arrives on Monday.</p>"}`,
		"password reset":  `"subject":"Reset your password","content":{"html":"<h1>Hi John,</h1><p>You asked for a new password. <a href=\"https://example.com/reset?t=abc\">Reset it</a> within a day.</p><p>The Example team</p>"}`,
		"receipt":         `"subject":"Receipt","content":{"html":"<table><tr><th>Item</th><th>Price</th></tr><tr><td>Book</td><td>10.00</td></tr><tr><td>Total</td><td>10.00</td></tr></table>"}`,
		"numbered list":   `"subject":"How to begin","content":{"html":"<p>Welcome on board. These are the first steps:</p><ol><li>Open the page</li><li>Sign in with your name<ul><li>or with a key</li></ul></li><li>Look around</li></ol>"}`,
		"newsletter":      `"subject":"News in March","content":{"html":"<h2>What is new</h2><p>We have opened a second office in the city, and look forward to your visit.</p><p><a href=\"https://example.com/news\">Read on</a></p><p><a href=\"https://example.com/u\">Unsubscribe</a></p>"},"headers":{"List-Unsubscribe":"<https://example.com/u/dG9rZW4=?list=5>","List-Unsubscribe-Post":"List-Unsubscribe=One-Click","List-Id":"Neuigkeiten für Sie <news.example.com>"}`,
		"Japanese":        `"subject":"ご注文を確認しました","content":"ご注文ありがとうございます。商品は月曜日に届きます。"`,
		"German":          `"subject":"Größe geändert","content":{"html":"<p>Guten Tag, die Größe Ihrer Bestellung wurde geändert. Viele Grüße aus Köln.</p>"}`,
		"short text":      `"subject":"Your code","content":"Your code is 482913. It is valid for ten minutes."`,
		"Bcc only":        `"to":[],"bcc":[{"email":"b@example.net"}],"subject":"Meeting moved","content":"The meeting is on Tuesday at ten."`,
		"invitation":      `"subject":"Invitation","content":{"html":"<p>Please come to the meeting on Tuesday at ten.</p>","calendar":{"method":"REQUEST","ics":"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//EN\nMETHOD:REQUEST\nBEGIN:VEVENT\nUID:1@example.com\nDTSTAMP:20260101T000000Z\nDTSTART:20260526T150000Z\nSUMMARY:Meeting\nEND:VEVENT\nEND:VCALENDAR"}}`,
		imageOnly:         `"subject":"Summer sale","content":{"html":"<a href=\"https://example.com\"><img src=\"https://example.com/x.png\"></a>"}`,
		"emoji":           `"from":{"email":"orders@example.org","name":"Shop 📦"},"subject":"On its way 🚚","content":{"html":"<p>Your parcel is on its way and arrives tomorrow.</p>"}`,
		"attachment":      `"subject":"Invoice","content":"Please find the invoice attached.","attachments":[{"filename":"l'avis d'été.pdf","content":"JVBERi0xLjQK","type":"application/pdf"}]`,
		"forwarded":       `"subject":"Fwd: hello","content":"See the message attached.","attachments":[{"filename":"m.eml","type":"message/rfc822","content":"RnJvbTogYUBleGFtcGxlLmNvbQpUbzogYkBleGFtcGxlLmNvbQpTdWJqZWN0OiBpbm5lcgpEYXRlOiBNb24sIDIgTWFyIDIwMjYgMTA6MDA6MDAgKzAwMDAKTWVzc2FnZS1JRDogPDFAZXhhbXBsZS5jb20+CgpJbm5lciBib2R5Cg=="}]`,
		"inline image":    `"subject":"Our new logo","content":{"html":"<p>This is the new logo that we have chosen after a long discussion with all of you.</p><img src=\"cid:logo\" alt=\"The logo\">"},"attachments":[{"filename":"logo.png","content":"iVBORw0KGgo=","content_id":"logo"}]`,
		"reply":           `"subject":"Re: question","content":"Yes, that is right.\n\n> Is it so?","headers":{"In-Reply-To":"<a=?1@example.com>","References":"<z@example.com>\t<a=?1@example.com>"}`,
		"trailing blanks": `"subject":"Report","content":"Line one  \nLine two\t\n-- \nSignature"`,
		"long lines":      `"subject":"A subject of a length that needs more than one line of the header to be written, as newsletters have it","content":"` + strings.TrimSpace(strings.Repeat("a long line of words ", 80)) + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := map[string]any{"from": map[string]string{"email": "orders@example.org", "name": "Example Shop"}, "to": []any{map[string]string{"email": "john@example.net", "name": "John Doe"}}}
			require.NoError(t, json.Unmarshal([]byte("{"+members+"}"), &body))
			text, err := json.Marshal(body)
			require.NoError(t, err)
			m, err := intake.Decode(text, intake.Limits{})
			require.NoError(t, err)
			raw, err := render.Render(m.Message, composition)
			require.NoError(t, err)
			cmd := exec.CommandContext(t.Context(), program, "-L", "-t")
			cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C")
			cmd.Stdin = bytes.NewReader(raw)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			_, report, ok := strings.Cut(string(out), "Content analysis details:")
			require.True(t, ok, "%s", out)
			for _, hit := range rule.FindAllStringSubmatch(report, -1) {
				if name == imageOnly && hit[1] == "MPART_ALT_DIFF" {
					continue
				}
				require.Regexp(t, contentsOwn, hit[1], "%s", report)
			}
		})
	}
}
