package intake_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/intake"
)

// TestDecodeRefusesRelayControlHeaders: they would control a relay in the operator's account.
func TestDecodeRefusesRelayControlHeaders(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"X-SMTPAPI", "x-smtpapi", "X-SES-CONFIGURATION-SET", "X-SES-Source-ARN", "X-MS-Exchange-Organization-SCL", "X-MS-Exchange-CrossTenant-Id",
		"X-Mailgun-Recipient-Variables", "X-PM-Message-Stream", "X-MJ-CustomID", "X-MC-Subaccount", "X-MSYS-API"} {
		body := []byte(with(`"headers":{"` + name + `":"x"}`))
		_, err := intake.Decode(body, limits())
		require.ErrorContains(t, err, "POSTRIDER_ALLOW_RELAY_HEADERS", name)
		open := limits()
		open.AllowRelayHeaders = true
		_, err = intake.Decode(body, open)
		require.NoError(t, err, name)
	}
	_, err := intake.Decode([]byte(with(`"headers":{"X-Mailer":"x","X-Campaign":"y","X-PMX":"z"}`)), limits())
	require.NoError(t, err)
}
