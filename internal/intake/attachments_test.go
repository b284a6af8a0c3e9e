package intake_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

// attach decodes a message with one uploaded file.
func attach(t *testing.T, filename, mediaType string, content []byte) (email.Message, error) {
	t.Helper()
	a, err := json.Marshal([]map[string]string{{"filename": filename, "type": mediaType, "content": base64.StdEncoding.EncodeToString(content)}})
	require.NoError(t, err)
	m, err := intake.Decode([]byte(with(`"attachments":`+string(a))), limits())
	return m.Message, err
}

func TestDecodeMakesFilenamesSafe(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ filename, mediaType, content, wantName, wantType string }{
		{"../../etc/pass wd.txt", "", "hi", "pass wd.txt", "text/plain; charset=utf-8"},
		{`C:\x\y.html`, "", "<html>", "y.html", "text/html; charset=utf-8"},
		{"data", "", "\x00\x01\x02", "data", "application/octet-stream"},
		{"i.png", "", "\x89PNG\r\n\x1a\n", "i.png", "image/png"},
		{"i.txt", "", "\x89PNG\r\n\x1a\n", "i.txt", "image/png"},
		{"a.csv", "", "a,b", "a.csv", "text/csv; charset=utf-8"},
		{"a.csv", "", "\x00\x01", "a.csv", "application/octet-stream"},
		{"a.json", "", "{}", "a.json", "application/json"},
		{"a.docx", "", "PK\x03\x04", "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"mail.eml", "Message/RFC822", "Subject: s", "mail.eml", "message/rfc822"},
		{"a.csv", "Text/CSV; Charset=UTF-8; name=b.exe", "a,b", "a.csv", "text/csv; charset=UTF-8"},
		{"empty.txt", "", "", "empty.txt", "text/plain; charset=utf-8"},
		{"mz.txt", "", "MZ is how this begins", "mz.txt", "text/plain; charset=utf-8"},
		{"exe", "", "hi", "exe", "text/plain; charset=utf-8"},
		{"x.js.txt", "", "hi", "x.js.txt", "text/plain; charset=utf-8"},
		{"Größe 📦.pdf", "", "%PDF-1.4", "Größe 📦.pdf", "application/pdf"},
		{"photo_\u202egpj.pdf", "", "%PDF-1.4", "photo_gpj.pdf", "application/pdf"},
	} {
		m, err := attach(t, row.filename, row.mediaType, []byte(row.content))
		require.NoError(t, err, row.filename)
		require.Equal(t, []email.Attachment{{Filename: row.wantName, Type: row.wantType, Content: []byte(row.content)}}, m.Attachments, row.filename)
	}
}

func TestDecodeBase64(t *testing.T) {
	t.Parallel()
	content := make([]byte, 256)
	for i := range content {
		content[i] = byte(i)
	}
	content = append(content, 0xfb, 0xff, 0xfe) // + and / in base64
	std, url := base64.StdEncoding, base64.URLEncoding
	lines := func(s, end string) (out string) {
		for ; len(s) > 76; s = s[76:] {
			out += s[:76] + end
		}
		return out + s + end
	}
	for size := len(content); size >= 254; size-- {
		want := content[:size]
		whole := std.EncodeToString(want)
		for name, given := range map[string]string{
			"standard": whole, "without padding": base64.RawStdEncoding.EncodeToString(want), "URL": url.EncodeToString(want), "URL without padding": base64.RawURLEncoding.EncodeToString(want),
			"CRLF": lines(whole, "\r\n"), "LF": lines(whole, "\n"), "LF without padding": lines(strings.TrimRight(whole, "="), "\n"), "spaces around": "  " + whole + " \t", "LF inside padding": strings.Replace(whole, "=", "\n=", 1),
		} {
			for _, body := range []string{quoted(given), strings.ReplaceAll(quoted(given), "/", `\/`)} {
				m, err := intake.Decode([]byte(with(`"attachments":[{"filename":"a","content":`+body+`}]`)), limits())
				require.NoError(t, err, name)
				require.Equal(t, want, m.Attachments[0].Content, name)
			}
		}
	}
	for given, want := range map[string]string{
		"a-b/": "two alphabets", "A": "in the middle", "AAAAA": "in the middle", "AA=": "in the middle", "AAAA=": "in the middle", "AA==AA==": "RFC 4648", "\u00e4AA": "RFC 4648", "AAAA!": "in the middle", "AAA!": "RFC 4648",
		"data:application/pdf;base64,JVBERi0=": "without the", "data:x;base64,AAAA": "without the", "A\u00a0A": "RFC 4648", "====": "RFC 4648",
	} {
		_, err := intake.Decode([]byte(with(`"attachments":[{"filename":"a","content":`+quoted(given)+`}]`)), limits())
		f := failure(t, err).Fields[0]
		require.Equal(t, "/attachments/0/content invalid_base64", f.Pointer+" "+f.Code, given)
		require.Contains(t, f.Detail, want, given)
	}
}

func TestDecodeContentID(t *testing.T) {
	t.Parallel()
	m := decode(t, with(`"attachments":[{"filename":"i.png","content":"","content_id":"<logo@x>"},{"filename":"j.png","content":"","content_id":""},{"filename":"k.png","content":""}]`))
	require.Equal(t, "logo@x", m.Attachments[0].ContentID)
	require.Empty(t, m.Attachments[1].ContentID)
	require.NotNil(t, m.Attachments[1].Content, "empty content is content")
}

func TestDecodeBlocksByName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"a.exe", "a.EXE", "a.pdf.scr", "a.exe.", "a.exe .", "a.exe. . ", "a. exe", "a.exe\u200b", "a.e\u00adxe", "a.exe:stream", "a.exe::$DATA", "x/y.exe",
		".exe", "a.com", "a.bat", "a.cmd", "a.pif", "a.js", "a.jse", "a.vbs", "a.vbe", "a.wsf", "a.wsh", "a.ps1", "a.msi", "a.msp", "a.hta", "a.jar",
		"a.lnk", "a.reg", "a.cpl", "a.dll", "a.sys", "a.app", "a.dmg", "a.apk", "a.iso",
		"=?utf-8?q?x.exe?=", "report=?utf-8?q?.exe?=", "=?UTF-8?B?eC5leGU=?=", "=?utf-8?b?eC5leGU?=", "=?utf-8?q?x.e?= =?utf-8?q?xe?=", "=?x-unknown?q?x=2Eexe?=", "=?utf-8*en?q?x.exe?=",
		"=?utf-16le?b?eAAuAGUAeABlAA==?=", "x%2Eexe", "x.e%78e", "x%2eEXE%20", "x.exe%00.pdf", "utf-8''x%2Eexe", "iso-8859-1'en'x%2eexe", "%3D%3Futf-8%3Fq%3Fx.exe%3F=",
		"x%252Eexe", "=?utf-8?q?x%2Eexe?=", "x.exe%E2%80%8B", "=?utf-8?q?x.exe",
	} {
		_, err := attach(t, name, "application/pdf", []byte("hi"))
		f := failure(t, err).Fields[0]
		require.Equal(t, "/attachments/0/filename attachment_blocked", f.Pointer+" "+f.Code, name)
		require.Contains(t, f.Detail, "send the link")
	}
	for _, name := range []string{"100%.pdf", "50%25.pdf", "=?utf-8?q?x.pdf?=", "x.exe=?utf-8?q?.pdf?=", "it's.pdf", "a''b.pdf", "%.exe.pdf", "=?.pdf"} {
		m, err := attach(t, name, "", []byte("hi"))
		require.NoError(t, err, name)
		require.Equal(t, name, m.Attachments[0].Filename)
	}
	_, err := attach(t, "a.pdf.ScR", "", []byte("hi"))
	require.Contains(t, failure(t, err).Fields[0].Detail, ".scr")
}

func TestDecodeBlocksByTypeAndContent(t *testing.T) {
	t.Parallel()
	_, err := attach(t, "a.bin", "Application/X-MSDownload; x=y", []byte("hi"))
	f := failure(t, err).Fields[0]
	require.Equal(t, "/attachments/0/type attachment_blocked", f.Pointer+" "+f.Code)
	require.Contains(t, f.Detail, "application/x-msdownload")
	for _, start := range []string{"MZ\x90\x00\x03", "MZP\x00\x02", "MZ" + "\x78\x01\x00", "\x7fELF\x02", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe"} {
		_, err := attach(t, "invoice.pdf", "application/pdf", []byte(start))
		f := failure(t, err).Fields[0]
		require.Equal(t, "/attachments/0/content attachment_blocked", f.Pointer+" "+f.Code, "%q", start)
		require.Contains(t, f.Detail, "send the link")
	}
}

func TestDecodeOwnBlocklist(t *testing.T) {
	t.Parallel()
	body := []byte(with(`"attachments":[{"filename":"a.exe","content":"TVqQAAM="}]`))
	_, err := intake.Decode(body, limits())
	require.Error(t, err)
	open := limits()
	open.Blocked = email.Block([]string{})
	_, err = intake.Decode(body, open)
	require.NoError(t, err)
}

func TestUpload(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ filename, mediaType, head, wantName, wantType string }{
		{"a/b.pdf", "application/pdf", "%PDF-1.4", "b.pdf", "application/pdf"},
		{"b.csv", "", "a,b", "b.csv", "text/csv; charset=utf-8"},
		{"b.csv", "Application/Octet-Stream", "a,b", "b.csv", "text/csv; charset=utf-8"},
		{"b", "application/octet-stream; x=y", "\x89PNG\r\n\x1a\n", "b", "image/png"},
		{"b.txt", "", "", "b.txt", "text/plain; charset=utf-8"},
	} {
		name, typ, err := intake.Upload(row.filename, row.mediaType, []byte(row.head), limits())
		require.NoError(t, err, row.filename)
		require.Equal(t, row.wantName+" "+row.wantType, name+" "+typ)
	}
	for _, row := range []struct{ filename, mediaType, head, code string }{
		{"", "", "", "missing"}, {"..", "", "", "missing"}, {"a\r\nb", "", "", "control_character"}, {"a", "x", "", "invalid"}, {"a", "multipart/mixed", "", "unsupported"},
		{"a.exe", "", "", "attachment_blocked"}, {"a", "application/x-msdownload", "", "attachment_blocked"}, {"a.pdf", "", "\x7fELF", "attachment_blocked"},
	} {
		_, _, err := intake.Upload(row.filename, row.mediaType, []byte(row.head), limits())
		f := failure(t, err)
		require.Equal(t, "file "+row.code, f.Fields[0].Pointer+" "+f.Fields[0].Code, "%+v", row)
		require.Len(t, f.Fields, 1)
	}
}

func TestDecodeFileReference(t *testing.T) {
	t.Parallel()
	m := decode(t, with(`"attachments":[{"reference_type":"file","reference_id":"1F25E6C9-6709-44d1-b93e-a5f1c5f80411"},
		{"reference_type":"file","reference_id":"1f25e6c9-6709-44d1-b93e-a5f1c5f80411","filename":"x/logo.png","type":"Image/PNG","content_id":"<logo>","optional":true}]`))
	require.Equal(t, []email.Attachment{
		{ReferenceType: email.ReferenceFile, ReferenceID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411"},
		{ReferenceType: email.ReferenceFile, ReferenceID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411", Filename: "logo.png", Type: "image/png", ContentID: "logo", Optional: true},
	}, m.Attachments)
}

func TestDecodeAttachmentURL(t *testing.T) {
	t.Parallel()
	m := decode(t, with(`"attachments":[{"url":"https://x.test/a?key=1"},{"reference_type":"url","reference_id":"","url":"https://x.test/b","optional":true},
		{"url":"https://x.test/c","filename":"x/logo.png","type":"Image/PNG","content_id":"<logo>"}]`))
	require.Equal(t, []email.Attachment{
		{ReferenceType: email.ReferenceURL, URL: "https://x.test/a?key=1"},
		{ReferenceType: email.ReferenceURL, URL: "https://x.test/b", Optional: true},
		{ReferenceType: email.ReferenceURL, URL: "https://x.test/c", Filename: "logo.png", Type: "image/png", ContentID: "logo"},
	}, m.Attachments)
	closed := limits()
	closed.CheckAttachmentURL = nil
	_, err := intake.Decode([]byte(with(`"attachments":[{"url":"https://x.test/a"}]`)), closed)
	require.Equal(t, "/attachments/0/url unsupported", failure(t, err).Fields[0].Pointer+" "+failure(t, err).Fields[0].Code)
}
