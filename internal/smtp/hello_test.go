package smtp

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheNameInEHLOIsFullOrAnAddressLiteral(t *testing.T) {
	t.Parallel()
	four, six := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4000}, &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 4000}
	for host, want := range map[string]string{
		"mail.example.com": "mail.example.com", "mail.example.com.": "mail.example.com", "a-b.example": "a-b.example", "mx.xn--p1ai": "mx.xn--p1ai",
		"3f2a9c": "[192.0.2.7]", "localhost": "[192.0.2.7]", "": "[192.0.2.7]", "my_host.example.com": "[192.0.2.7]", "10.0.0.1": "[192.0.2.7]",
		"mail.example.com\r\nX": "[192.0.2.7]", "müller.example": "[192.0.2.7]", "-a.example": "[192.0.2.7]", strings.Repeat("a.", 130) + "example": "[192.0.2.7]",
	} {
		require.Equal(t, want, heloName(host, four), "%q", host)
	}
	require.Equal(t, "[IPv6:fe80::1]", heloName("box", six))
}
