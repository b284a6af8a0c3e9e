package advice_test

import (
	"archive/zip"
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/advice"
)

func attached(as ...email.Attachment) email.Message {
	m := good()
	m.Attachments = as
	return m
}

func file(name string, content ...byte) email.Attachment {
	return email.Attachment{Filename: name, Type: "application/octet-stream", Content: append([]byte{}, content...)}
}

// archive is a ZIP of files of these names. Flags are those of the first.
func archive(t *testing.T, flags uint16, comment string, names ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i, name := range names {
		h := &zip.FileHeader{Name: name, Method: zip.Store, Extra: make([]byte, 12), Comment: "about it"}
		if i == 0 {
			h.Flags = flags
		}
		f, err := w.CreateRaw(h)
		require.NoError(t, err)
		_, err = f.Write(nil)
		require.NoError(t, err)
	}
	require.NoError(t, w.SetComment(comment))
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestAttachmentTypes(t *testing.T) {
	t.Parallel()
	web := email.Attachment{Filename: "page", Type: "text/html; charset=utf-8", Content: []byte("<p>")}
	svg := file("a.svg")
	svg.ContentID = "a"
	var many []string
	for i := range 10_000 {
		many = append(many, fmt.Sprint(i))
	}
	examine(t, "attachment_types", []row{
		{name: "none", message: good()},
		{name: "common ones", message: attached(file("i.pdf"), file("a.DOCX"), file("a.zip", archive(t, 0, "", "a.txt", "b.pdf")...)), level: advice.LevelOK, detail: "3 attachments"},
		{name: "a program that is let pass here", message: attached(file("a.EXE ")), level: advice.LevelWarning, detail: "A program", where: "/attachments/0"},
		{name: "a program by its type", message: attached(email.Attachment{Filename: "a", Type: "application/x-msdownload", Content: []byte{}}), level: advice.LevelWarning, detail: "A program", where: "/attachments/0"},
		{name: "a program by its content", message: attached(file("a.dat", []byte("\x7fELF")...)), level: advice.LevelWarning, detail: "A program", where: "/attachments/0"},
		{name: "macros", message: attached(file("i.pdf"), file("a.XLSM")), level: advice.LevelWarning, detail: ".xlsm", where: "/attachments/1"},
		{name: "a web page", message: attached(file("invoice.pdf.html")), level: advice.LevelWarning, detail: ".html", where: "/attachments/0"},
		{name: "a web page by its type", message: attached(web), level: advice.LevelWarning, detail: "text/html", where: "/attachments/0"},
		{name: "an inline SVG", message: attached(svg), level: advice.LevelAdvice, detail: "PNG", where: "/attachments/0"},
		{name: "a rare archive", message: attached(file("a.7z"), file("b.rar")), level: advice.LevelAdvice, detail: ".7z", where: "/attachments/0"},
		{name: "the worse one counts", message: attached(file("a.7z"), file("b.docm")), level: advice.LevelWarning, detail: ".docm", where: "/attachments/1"},
		{name: "a program in an archive", message: attached(file("a.zip", archive(t, 0, "", "read.me", "dir/setup.exe")...)), level: advice.LevelWarning, detail: "a program", where: "/attachments/0"},
		{name: "whatever the archive is called", message: attached(file("a.dat", archive(t, 0, "with a comment", "setup.exe")...)), level: advice.LevelWarning, detail: "a program", where: "/attachments/0"},
		{name: "an encrypted archive", message: attached(file("a.zip", archive(t, 1, "", "a.txt")...)), level: advice.LevelWarning, detail: "encrypted", where: "/attachments/0"},
		{name: "behind what is looked at", message: attached(file("a.zip", archive(t, 0, "", append(many, "setup.exe")...)...)), level: advice.LevelOK},
		{name: "an archive cut short", message: attached(file("a.zip", archive(t, 0, "", "a.txt", "setup.exe")[:80]...)), level: advice.LevelOK},
		{name: "an archive that points nowhere", message: attached(file("a.zip", []byte("PK\x03\x04PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x00\x00")...)), level: advice.LevelOK},
	})
}

func TestMessageSize(t *testing.T) {
	t.Parallel()
	sized := func(n int64) advice.Facts { return advice.Facts{SizeBytes: n} }
	examine(t, "message_size", []row{
		{name: "small", message: good(), facts: sized(10_240_000), level: advice.LevelOK},
		{name: "large", message: good(), facts: sized(10_240_001), level: advice.LevelAdvice, detail: "10240001 bytes"},
		{name: "too large", message: good(), facts: sized(20_000_001), level: advice.LevelWarning, detail: "Outlook.com"},
	})
}

func TestAttachmentReferences(t *testing.T) {
	t.Parallel()
	recording := email.Attachment{ReferenceType: email.ReferenceRecording, ReferenceID: "1f25e6c9-6709-44d1-b93e-a5f1c5f80411"}
	examine(t, "attachment_references", []row{
		{name: "no attachment", message: good()},
		{name: "contents", message: attached(file("a.pdf")), level: advice.LevelOK},
		{name: "a recording", message: attached(file("a.pdf"), recording), level: advice.LevelAdvice, detail: "1 attachment by reference", where: "/attachments/1"},
	})
}

func TestSender(t *testing.T) {
	t.Parallel()
	use := func(address string, total, count, same int) advice.Facts {
		return advice.Facts{Senders: email.SenderUse{Address: address, Total: total, Count: count, Same: same}}
	}
	examine(t, "sender", []row{
		{name: "no e-mails yet", message: good(), level: advice.LevelOK, detail: "too few"},
		{name: "too few", message: good(), facts: use("other@example.com", 4, 4, 0), level: advice.LevelOK, detail: "too few"},
		{name: "the usual one", message: good(), facts: use("Orders@example.com", 100, 60, 60), level: advice.LevelOK, detail: "60 of the stream's last 100"},
		{name: "one of several", message: good(), facts: use("other@example.com", 100, 80, 20), level: advice.LevelOK, detail: "20 of"},
		{name: "another one", message: good(), facts: use("other@example.com", 100, 98, 2), level: advice.LevelAdvice, detail: "98 of the stream's last 100 e-mails come from other@example.com", where: "orders@example.com"},
		{name: "one of many", message: good(), facts: use("other@example.com", 100, 30, 3), level: advice.LevelAdvice, detail: "no usual sender", where: "orders@example.com"},
	})
}
