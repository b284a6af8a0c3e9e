package safehttp

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	strict := policy{}
	listed := policy{listed: []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), // an operator who lists everything
	}}
	dev := policy{allowLoopback: true}
	const open, priv, never, loop = "open", "unless listed", "never", "loopback"
	for addr, class := range map[string]string{
		"1.1.1.1": open, "93.184.216.34": open, "172.32.0.1": open, "100.128.0.1": open, "192.0.1.1": open,
		"2606:4700::1111": open, "2a00:1450::1": open, "::ffff:1.1.1.1": open, "64:ff9b::101:101": open, "2002:101:101::1": open,

		"10.0.0.1": priv, "172.16.0.1": priv, "172.31.255.255": priv, "192.168.1.1": priv, "100.64.0.1": priv,
		"192.0.0.1": priv, "192.0.2.1": priv, "198.18.0.1": priv, "198.51.100.1": priv, "203.0.113.1": priv, "192.88.99.1": priv,
		"0.1.2.3": priv, "240.0.0.1": priv, "fc00::1": priv, "fd12::1": priv, "fec0::1": priv, "2001::1": priv, "2001:db8::1": priv,
		"3fff::1": priv, "100::1": priv, "64:ff9b:1::a00:1": priv, "5f00::1": priv,
		"::ffff:10.0.0.1": priv, "64:ff9b::a00:1": priv, "2002:a00:1::": priv, "::10.0.0.1": priv, "fd12::1%eth0": priv,

		"127.0.0.1": loop, "127.255.255.254": loop, "::1": loop, "::ffff:127.0.0.1": loop, "64:ff9b::7f00:1": loop,
		"2002:7f00:1::": loop, "::127.0.0.1": loop, "::1%lo": loop,

		"169.254.169.254": never, "169.254.170.2": never, "fe80::1": never, "fe80::1%eth0": never, "fd00:ec2::254": never, "fd00:ec2::254%eth0": never,
		"100.100.100.200": never, "168.63.129.16": never, "192.0.0.192": never, "fd20:ce::254": never, "fd00:42::42": never,
		"224.0.0.1": never, "239.255.255.250": never, "ff02::1": never, "0.0.0.0": never, "::": never, "255.255.255.255": never,
		"::ffff:169.254.169.254": never, "64:ff9b::a9fe:a9fe": never, "2002:a9fe:a9fe::1": never, "::169.254.169.254": never, "::ffff:0.0.0.0": never,
	} {
		t.Run(addr, func(t *testing.T) {
			t.Parallel()
			a := netip.MustParseAddr(addr)
			_, err := strict.check(a)
			require.Equal(t, class == open, err == nil, "nothing listed: %v", err)
			if err != nil {
				blocked, ok := errors.AsType[*BlockedError](err)
				require.True(t, ok)
				require.Equal(t, a, blocked.Addr)
				require.NotEmpty(t, blocked.Reason)
				require.NotContains(t, err.Error(), addr)
			}
			_, err = listed.check(a)
			require.Equal(t, class != never, err == nil, "all listed: %v", err)
			viaList, err := dev.check(a)
			require.Equal(t, class == open || class == loop, err == nil, "dev: %v", err)
			require.False(t, viaList)
		})
	}
}

func TestTheListOpensNoMoreThanItSays(t *testing.T) {
	t.Parallel()
	p := policy{listed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16")}}
	for addr, open := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "64:ff9b::a01:203": true, "fd12::1": true,
		"10.2.0.1": false, "127.0.0.1": false, "fd13::1": false,
	} {
		viaList, err := p.check(netip.MustParseAddr(addr))
		require.Equal(t, open, err == nil, addr)
		require.Equal(t, open, viaList, addr)
	}
	viaList, err := p.check(netip.MustParseAddr("1.1.1.1"))
	require.NoError(t, err)
	require.False(t, viaList)
	_, err = p.check(netip.Addr{})
	require.Error(t, err, "what cannot be read is blocked")
}

func TestControlFailsClosed(t *testing.T) {
	t.Parallel()
	c := New(Options{})
	require.NoError(t, c.control("tcp4", "1.1.1.1:443", nil))
	require.Error(t, c.control("udp4", "1.1.1.1:443", nil))
	require.Error(t, c.control("tcp4", "example.com:443", nil))
	require.Error(t, c.control("tcp4", "", nil))
	require.Error(t, c.control("tcp6", "[fe80::1%eth0]:443", nil))
}
