package dkim_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/dkimtest"
	"github.com/postrider/postrider/internal/memtest"
)

// plain has one instance of each field that is signed once more than present.
const plain = "From: Shop <shop@example.com>\r\nSender: mailer@example.com\r\nReply-To: help@example.com\r\nTo: a@example.net\r\nCc: b@example.net\r\n" +
	"Subject: Your order 12345\r\nDate: Wed, 04 Mar 2026 04:06:07 +0000\r\nMessage-ID: <1@example.com>\r\nIn-Reply-To: <0@example.com>\r\nReferences: <0@example.com>\r\n" +
	"List-Unsubscribe: <https://example.com/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Id: <news.example.com>\r\nX-Client: a b\r\nX-Client: second\r\n" +
	"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHello  you,\r\n\r\nyour order is on its way.\r\n"

// bare has the fields that a message needs, and no others.
const bare = "From: a@example.com\r\nDate: Wed, 04 Mar 2026 04:06:07 +0000\r\n\r\nHello\r\n"

func TestSignaturesVerify(t *testing.T) {
	t.Parallel()
	all := dkimtest.Verifiers(t)
	for name, message := range map[string]string{
		"all oversigned fields":           plain,
		"few fields":                      bare,
		"no body":                         "From: a@example.com\r\n\r\n",
		"no empty line after the header":  "From: a@example.com\r\nSubject: x\r\n",
		"header without a last line end":  "From: a@example.com\r\nSubject: x",
		"body of empty lines":             "From: a@example.com\r\n\r\n\r\n\r\n\r\n",
		"body of white space":             "From: a@example.com\r\n\r\n  \t\r\n \r\n",
		"body without a last line end":    "From: a@example.com\r\n\r\nHello\r\nyou",
		"white space without a line end":  "From: a@example.com\r\n\r\nHello\r\n  ",
		"empty lines at the end":          "From: a@example.com\r\n\r\nHello\r\n\r\n \r\n\r\n",
		"empty lines first and between":   "From: a@example.com\r\n\r\n\r\n\r\nHello\r\n\r\n\t\r\n\r\nyou\r\n",
		"tabs and spaces":                 "From: a@example.com\r\n\r\n\tHello \t you  \r\n  and\tyou\t\r\n a  b   c \r\n",
		"lines that begin with dots":      "From: a@example.com\r\n\r\n.\r\n..\r\n.Hello\r\n",
		"long line":                       "From: a@example.com\r\n\r\n" + strings.Repeat("long  ", 4000) + "\r\n",
		"long line without a space":       "From: a@example.com\r\n\r\n" + strings.Repeat("x", 20_000) + "\r\n",
		"bytes that are no UTF-8":         "From: a@example.com\r\n\r\n\xff\x00\xfe \xa0\r\n\xa0\r\n",
		"large body":                      "From: a@example.com\r\n\r\n" + strings.Repeat("A line of some  70 bytes, as bodies in quoted-printable have them. \r\n", 30_000),
		"folded UTF-8":                    "From: Jürgen\r\n =?utf-8?q?M=C3=BCller?= <jürgen@example.com>\r\nSubject: Größe 📦\r\n\tund  noch  mehr\r\n   Größe \r\n\r\nGrüße\r\n",
		"empty values":                    "From: a@example.com\r\nSubject:\r\nX-Empty: \r\nX-Folded:\r\n \r\n\tx\r\n\r\nHello\r\n",
		"values without a leading space":  "From:a@example.com\r\nSubject:x\r\nX-Odd:a:b;c=d\r\n\r\nHello\r\n",
		"repeated fields":                 "X-A: 1\r\nFrom: a@example.com\r\nX-A: 2\r\nReceived: by x\r\nx-a: 3\r\nTo: a@example.net\r\nTo: b@example.net\r\nFrom: b@example.com\r\n\r\nHello\r\n",
		"names that h= cannot hold":       "From: a@example.com\r\nX;b: 1\r\nX-b=: 2\r\nb: 3\r\n" + strings.Repeat("X", 950) + ": 4\r\n\r\nHello\r\n",
		"names as long as lines":          "From: a@example.com\r\n" + strings.Repeat("X", 900) + ": 1\r\n" + strings.Repeat("Y", 80) + ": 2\r\n\r\nHello\r\n",
		"many fields":                     "From: a@example.com\r\n" + strings.Repeat("X-Some-Field-Of-The-Client: x\r\n", 300) + "\r\nHello\r\n",
		"fields that are signed nowhere":  "Return-Path: <a@example.com>\r\nReceived: by x\r\nDKIM-Signature: v=1; b=x\r\nFrom: a@example.com\r\nBcc: c@example.net\r\nResent-From: d@example.com\r\n\r\nHello\r\n",
		"value with the marks of the tag": "From: a@example.com\r\nX-A: b=abc; bh=x; DKIM-Signature: b=\r\n\r\nb=abc; bh=x\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			signed := sign(t, message)
			wellFolded(t, signed)
			// A signature that is there already is not ours to verify.
			signed = strings.Replace(signed, "DKIM-Signature: v=1; b=x\r\n", "", 1)
			for _, v := range all {
				require.Equal(t, both, v.Verify(t, signed, published(testKeys())), v.Name)
			}
		})
	}
}

// wellFolded checks the lines of the signatures: only a name that is longer goes past 78 bytes.
func wellFolded(t *testing.T, signed string) {
	t.Helper()
	fields := regexp.MustCompile(`^(DKIM-Signature:.*\r\n( .*\r\n)+){2}`).FindString(signed)
	require.NotEmpty(t, fields)
	for line := range strings.SplitSeq(fields, "\r\n") {
		require.LessOrEqual(t, len(line), 998)
		if !strings.HasPrefix(line, " "+strings.Repeat("X", 80)) && !strings.HasPrefix(line, " "+strings.Repeat("Y", 78)) {
			require.LessOrEqual(t, len(line), 78, line)
		}
		require.Equal(t, strings.TrimRight(line, " \t"), line)
	}
}

// TestGolden fixes the bytes: a version that signed an e-mail's second attempt in another form
// would send other bytes. The key is the one of RFC 8463 appendix A.
func TestGolden(t *testing.T) {
	t.Parallel()
	got, err := dkim.Sign([]byte(plain), []dkim.Key{rfc8463Key(t)}, at)
	require.NoError(t, err)
	want, err := os.ReadFile("testdata/signature.txt")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

func rfc8463Key(t *testing.T) dkim.Key {
	t.Helper()
	seed, err := base64.StdEncoding.DecodeString("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed))
	require.NoError(t, err)
	private, err := dkim.ParsePrivateKey(der)
	require.NoError(t, err)
	return dkim.Key{Domain: "football.example.com", Selector: "brisbane", Private: private}
}

func TestRFC8463AppendixA(t *testing.T) {
	t.Parallel()
	const message = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\nSubject: Is dinner ready?\r\n" +
		"Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\nMessage-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\nHi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n"
	const bodyHash = "bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;"
	const signatures = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n" +
		" subject : date : message-id : from : subject : date;\r\n " + bodyHash + "\r\n b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus\r\n Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==\r\n" +
		"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n q=dns/txt; s=test; t=1528637909; h=from : to : subject :\r\n" +
		" date : message-id : from : subject : date;\r\n " + bodyHash + "\r\n b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3\r\n DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz\r\n dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=\r\n"
	dns := map[string]string{
		"brisbane._domainkey.football.example.com": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		"test._domainkey.football.example.com":     "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB",
	}
	key := rfc8463Key(t)
	require.Equal(t, dns[key.RecordName()], key.Private.Record())
	ours, err := dkim.Sign([]byte(message), []dkim.Key{key}, time.Unix(1528637909, 0))
	require.NoError(t, err)
	require.Contains(t, string(ours), bodyHash)
	for _, v := range dkimtest.Verifiers(t) {
		require.Equal(t, both, v.Verify(t, signatures+message, dns), v.Name)
		require.Equal(t, []string{"good"}, v.Verify(t, string(ours)+message, dns), v.Name)
	}
}

func TestTheTagsOfASignature(t *testing.T) {
	t.Parallel()
	fields, err := dkim.Sign([]byte(plain), testKeys(), at)
	require.NoError(t, err)
	signatures := strings.SplitAfter(string(fields), "=\r\n")
	require.Len(t, strings.Split(string(fields), "DKIM-Signature:"), 3)
	require.True(t, strings.HasPrefix(signatures[0], "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com;"), "RSA is on top, though its key came last")
	require.Contains(t, string(fields), "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.com;")
	require.Equal(t, 2, strings.Count(string(fields), " t=1772597167;"), "the given time")
	require.Len(t, regexp.MustCompile(`\bbh=[^;]+;`).FindAllString(string(fields), -1), 2)
	require.NotRegexp(t, `[; ](l|x|i|z)=`, string(fields))

	h := regexp.MustCompile(`h=([^;]+);`).FindStringSubmatch(strings.NewReplacer("\r\n ", "").Replace(string(fields)))[1]
	require.Equal(t, "From:From:Sender:Sender:Reply-To:Reply-To:To:To:Cc:Cc:Subject:Subject:Date:Date:Message-ID:Message-ID:In-Reply-To:In-Reply-To:References:References:"+
		"MIME-Version:MIME-Version:Content-Type:Content-Type:Content-Transfer-Encoding:Content-Transfer-Encoding:"+
		"List-Unsubscribe:List-Unsubscribe:List-Unsubscribe-Post:List-Unsubscribe-Post:List-Id:X-Client:X-Client", h)
}

func TestTheSameBytes(t *testing.T) {
	t.Parallel()
	first := sign(t, plain)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			again, err := dkim.Sign([]byte(plain), testKeys(), at.UTC().Add(time.Millisecond))
			if err != nil || string(again)+plain != first {
				t.Error("other bytes", err)
			}
		})
	}
	group.Wait()
	later, err := dkim.Sign([]byte(plain), testKeys(), at.Add(time.Second))
	require.NoError(t, err)
	require.NotEqual(t, first, string(later)+plain)
}

var oversigned = strings.Fields("From Sender Reply-To To Cc Subject Date Message-ID In-Reply-To References MIME-Version Content-Type Content-Transfer-Encoding List-Unsubscribe List-Unsubscribe-Post")

func TestChangesOnTheWayBreakSignatures(t *testing.T) {
	t.Parallel()
	all := dkimtest.Verifiers(t)
	change := func(from, to string) func(string) string {
		return func(s string) string { return strings.Replace(s, from, to, 1) }
	}
	changes := map[string]func(string) string{
		"body":                    change("on its way", "on its Way"),
		"text behind the body":    func(s string) string { return s + "more\r\n" },
		"word joined in the body": change("Hello  you", "Helloyou"),
		"leading space":           change("your order is", " your order is"),
		"empty line in the body":  change("you,\r\n\r\n", "you,\r\n"),
		"a client's field":        change("X-Client: a b", "X-Client: ab"),
		"a client's field gone":   change("X-Client: second\r\n", ""),
		"order of repeated":       change("X-Client: a b\r\nX-Client: second\r\n", "X-Client: second\r\nX-Client: a b\r\n"),
		"List-Id gone":            change("List-Id: <news.example.com>\r\n", ""),
		"time":                    func(s string) string { return strings.ReplaceAll(s, "t=1772597167", "t=1772597168") },
		"selection":               func(s string) string { return strings.ReplaceAll(s, ":List-Id", "") },
	}
	for _, name := range oversigned {
		changes[name+" added on top"] = func(s string) string { return name + ": x\r\n" + s }
		changes[name+" added below"] = change("\r\n\r\n", "\r\n"+name+": x\r\n\r\n")
		changes[name+" changed"] = change("\r\n"+name+": ", "\r\n"+name+": x")
		line := regexp.MustCompile(`(?m)^` + name + `: .*\r\n`)
		changes[name+" removed"] = func(s string) string { return line.ReplaceAllString(s, "") }
	}
	signed, dns := sign(t, plain), published(testKeys())
	for name, change := range changes {
		changed := change(signed)
		require.NotEqual(t, signed, changed, name)
		for _, v := range all {
			verdicts := v.Verify(t, changed, dns)
			require.Len(t, verdicts, 2, "%s: %s", name, v.Name)
			require.NotContains(t, verdicts, "good", "%s: %s", name, v.Name)
		}
	}
	signed = sign(t, bare)
	for _, name := range oversigned {
		for _, v := range all {
			require.NotContains(t, v.Verify(t, name+": x\r\n"+signed, dns), "good", "%s that the message did not have: %s", name, v.Name)
			require.NotContains(t, v.Verify(t, strings.Replace(signed, "\r\n\r\n", "\r\n"+name+": x\r\n\r\n", 1), dns), "good", "%s: %s", name, v.Name)
		}
	}
}

func TestChangesThatRelaysMakeBreakNothing(t *testing.T) {
	t.Parallel()
	all := dkimtest.Verifiers(t)
	signed, dns := sign(t, plain), published(testKeys())
	header, body, _ := strings.Cut(signed, "\r\n\r\n")
	for name, changed := range map[string]string{
		"lower case names":           regexp.MustCompile(`(?m)^[A-Za-z-]+:`).ReplaceAllStringFunc(header, strings.ToLower) + "\r\n\r\n" + body,
		"upper case names":           regexp.MustCompile(`(?m)^[A-Za-z-]+:`).ReplaceAllStringFunc(header, strings.ToUpper) + "\r\n\r\n" + body,
		"no space behind the colon":  strings.ReplaceAll(header, ": ", ":") + "\r\n\r\n" + body,
		"tabs for spaces":            strings.ReplaceAll(signed, " ", "\t"),
		"more spaces":                strings.ReplaceAll(signed, " ", "  "),
		"folded at spaces":           regexp.MustCompile(`([^\n]) `).ReplaceAllString(header, "$1\r\n ") + "\r\n\r\n" + body,
		"spaces at line ends":        strings.ReplaceAll(header, "\r\n", " \t\r\n") + "\r\n\r\n" + strings.ReplaceAll(body, "\r\n", "  \t\r\n"),
		"unfolded signatures":        strings.ReplaceAll(signed, "\r\n ", " "),
		"empty lines at the end":     signed + "\r\n \r\n\r\n",
		"trace fields":               "Return-Path: <x@example.com>\r\nReceived: by mx.example.net\r\nAuthentication-Results: mx.example.net; none\r\n" + signed,
		"Bcc and Resent fields":      "Bcc: x@example.com\r\nResent-From: x@example.com\r\n" + signed,
		"a field that nobody signed": "X-Spam-Score: 0\r\nList-Help: <https://example.com>\r\n" + signed,
		"another order of fields":    "From: Shop <shop@example.com>\r\n" + strings.Replace(signed, "From: Shop <shop@example.com>\r\n", "", 1),
	} {
		require.NotEqual(t, signed, changed, name)
		for _, v := range all {
			require.Equal(t, both, v.Verify(t, changed, dns), "%s: %s", name, v.Name)
		}
	}
	for _, field := range []string{"Received: by x\r\n", "Return-Path: <a@example.com>\r\n", "Bcc: c@example.net\r\n", "Resent-From: d@example.com\r\n", "resent-to: d@example.com\r\n", "DKIM-Signature: v=1; b=x\r\n"} {
		signed := sign(t, field+plain)
		require.Contains(t, signed, field)
		require.Equal(t, both, dkimtest.VerifyMsgauth(t, strings.Replace(signed, field, "", 1), dns), "removed: %s", field)
	}
	// dkimpy reads no header with white space before the colon (RFC 5322 section 4.5.8).
	require.Equal(t, both, dkimtest.VerifyMsgauth(t, strings.Replace(signed, "\r\nSubject:", "\r\nSubject \t:", 1), dns))
	require.Equal(t, both, dkimtest.VerifyMsgauth(t, sign(t, strings.Replace(plain, "Subject:", "Subject \t:", 1)), dns))
}

func TestMessagesThatCannotBeSigned(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]string{
		"":                                "no From field",
		"\r\nFrom: a@example.com\r\n":     "no From field",
		"Subject: x\r\n\r\nFrom: a\r\n":   "no From field",
		" From: a@example.com\r\n\r\n":    "line at byte 0 of its header",
		"From: a\r\nno field\r\n\r\n":     "line at byte 9 of its header",
		"From: a\r\n: x\r\n\r\n":          "line at byte 9 of its header",
		"From: a\r\nÜ: x\r\n\r\n":         "line at byte 9 of its header",
		"From: a\r\nA B: x\r\n\r\n":       "line at byte 9 of its header",
		"From: a\n\nx\n":                  "line at byte 0 of its header has a CR or LF",
		"From: a\r\nX: a\rb\r\n\r\n":      "line at byte 9 of its header has a CR or LF",
		"From: a\r\n\r\na\nb\r\n":         "line at byte 0 of its body has a CR or LF",
		"From: a\r\n\r\na\r\nb\rc\r\n":    "line at byte 3 of its body has a CR or LF",
		"From: a\r\n\r\na\r\r\n":          "line at byte 0 of its body has a CR or LF",
		"From: a\r\n\r\na\r":              "line at byte 0 of its body has a CR or LF",
		"From: a\r\n\r\na\r\n\n":          "line at byte 3 of its body has a CR or LF",
		"From: a\r\n\r\n" + "secret \n\r": "line at byte 0 of its body has a CR or LF",
	} {
		_, err := dkim.Sign([]byte(message), testKeys(), at)
		require.ErrorIs(t, err, dkim.ErrMessage, "%q", message)
		require.ErrorContains(t, err, want, "%q", message)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	t.Parallel()
	good := testKeys()[0]
	for want, change := range map[string]func(*dkim.Key){
		"no private key":         func(k *dkim.Key) { k.Private = dkim.PrivateKey{} },
		`"müller.example"`:       func(k *dkim.Key) { k.Domain = "müller.example" },
		`"localhost"`:            func(k *dkim.Key) { k.Domain = "localhost" },
		`"example.com."`:         func(k *dkim.Key) { k.Domain = "example.com." },
		`"a.com; l=0"`:           func(k *dkim.Key) { k.Domain = "a.com; l=0" },
		`""`:                     func(k *dkim.Key) { k.Domain = "" },
		`"-a.example"`:           func(k *dkim.Key) { k.Domain = "-a.example" },
		"letters, digits and":    func(k *dkim.Key) { k.Domain = strings.Repeat("a", 64) + ".example" },
		`selector "a_b"`:         func(k *dkim.Key) { k.Selector = "a_b" },
		`selector ""`:            func(k *dkim.Key) { k.Selector = "" },
		"has 257 bytes":          func(k *dkim.Key) { k.Domain = strings.Repeat("abcdefg.", 29) + "de" },
		"DKIM key 1: there is n": func(k *dkim.Key) { k.Private = dkim.PrivateKey{} },
	} {
		k := good
		change(&k)
		_, err := dkim.Sign([]byte(plain), []dkim.Key{good, k}, at)
		require.ErrorContains(t, err, want)
		require.False(t, errors.Is(err, dkim.ErrMessage))
	}
	_, err := dkim.Sign([]byte(plain), nil, at)
	require.ErrorContains(t, err, "no DKIM key")
	_, err = dkim.Sign([]byte(plain), testKeys(), time.Time{})
	require.ErrorContains(t, err, "before 1970")
	good.Domain, good.Selector = "xn--mller-kva.example", "a.b"
	_, err = dkim.Sign([]byte(plain), []dkim.Key{good}, at)
	require.NoError(t, err)
}

// TestTheBodyIsNotCopied is not parallel: what others allocate would count.
func TestTheBodyIsNotCopied(t *testing.T) {
	for name, line := range map[string]string{
		"ordinary lines":  "A line of  text with \t white space. \r\n",
		"empty lines":     "\r\n",
		"one line":        "x",
		"one white space": " ",
		"one line of two": "a  b ",
	} {
		message := []byte("From: a@example.com\r\n\r\n" + strings.Repeat(line, 25<<20/len(line)))
		keys := testKeys()[:1]
		before := memtest.Allocated()
		_, err := dkim.Sign(message, keys, at)
		require.NoError(t, err)
		require.Less(t, memtest.Allocated()-before, int64(256<<10), name)
	}
}
