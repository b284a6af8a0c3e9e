package smtp_test

import (
	"os"
	"testing"

	"github.com/postrider/postrider/internal/smtptest"
)

func TestMain(m *testing.M) { os.Exit(smtptest.RunBothWays(m)) }
