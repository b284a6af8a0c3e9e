package pg

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

func TestABrokenConnectionIsNobodysFault(t *testing.T) {
	t.Parallel()
	for _, err := range []error{context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, driver.ErrBadConn, &net.OpError{Op: "read", Err: errors.New("reset")}} {
		require.Equal(t, email.CodeUnavailable, email.FailureCode(Translate(fmt.Errorf("lock e-mails: %w", err))), "%v", err)
	}
	require.NotEqual(t, email.CodeUnavailable, email.FailureCode(Translate(errors.New("something else"))))
}
