package intake_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func TestDecodeHeaders(t *testing.T) {
	t.Parallel()
	ids := strings.Repeat("<0123456789@mail.example.com> ", 300) + "<end@example.com>"
	for name, value := range map[string]string{
		"References":       ids,
		"In-Reply-To":      "<a@example.com>\t(a comment) <b@example.com>",
		"List-Unsubscribe": "<https://example.com/u/dG9rZW4=?list=5>",
		"List-Id":          "Bücher <books.example.com>",
		"X-Note":           "Größe\tXL",
	} {
		m := decode(t, with(`"headers":{`+quoted(name)+`:`+quoted(value)+`}`))
		require.Equal(t, []email.Header{{Name: name, Value: value}}, m.Headers)
	}
}

func TestDecodeHeaderRefusals(t *testing.T) {
	t.Parallel()
	refusal := func(headers string) email.FieldError {
		_, err := intake.Decode([]byte(with(`"headers":{`+headers+`}`)), limits())
		return failure(t, err).Fields[0]
	}
	for _, tt := range []struct{ name, value, code string }{
		{"References", "<ü@example.com>", "invalid"},
		{"Precedence", "größer", "invalid"},
		{"List-Id", "<bücher.example.com>", "invalid"},
		{"References", "<" + strings.Repeat("x", 1000) + "@example.com>", "too_long"},
		{"X-Blob", strings.Repeat("x", 1000), "too_long"},
		{"X-Blob", strings.Repeat("x ", 20_000), "too_long"},
		{"X-Line", "a\nb", "control_character"},
	} {
		got := refusal(quoted(tt.name) + ":" + quoted(tt.value))
		require.Equal(t, "/headers/"+tt.name+" "+tt.code, got.Pointer+" "+got.Code)
	}
	var many []string
	for i := range 5 {
		many = append(many, fmt.Sprintf(`"X-%d":%s`, i, quoted(strings.TrimSpace(strings.Repeat("word ", 3000)))))
	}
	require.Equal(t, "/headers", refusal(strings.Join(many, ",")).Pointer)
}
