package missing

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type deps struct {
	Reader io.Reader
	Done   func()
	Count  *int
	Names  map[string]bool
	Limit  int
	Extra  io.Writer
}

func TestOf(t *testing.T) {
	t.Parallel()
	require.EqualError(t, Of(deps{}), "missing.deps lacks Reader, Done, Count, Names, Extra")
	require.EqualError(t, Of(deps{Done: func() {}, Names: map[string]bool{}}, "Extra"), "missing.deps lacks Reader, Count")
	require.NoError(t, Of(deps{Reader: strings.NewReader(""), Done: func() {}, Count: new(int), Names: map[string]bool{}}, "Extra"))
}
