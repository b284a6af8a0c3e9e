package devstack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// portAttempts is how many free ports are tried when other processes keep taking
// them between the choice and the server's bind.
const portAttempts = 5

// Free ports are looked for below the range of ephemeral ports (Linux begins at 32768,
// IANA at 49152): no outgoing connection takes a port there.
const (
	firstFreePort = 20000
	lastFreePort  = 32000
)

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago. Another
// process may take it before the caller does. The caller must be ready to try
// another, as StartPostgres and StartTemporal do for a port of 0.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := firstFreePort + rand.IntN(lastFreePort-firstFreePort)
		if err = checkPort("find a free port", port, ""); err == nil {
			return port, nil
		}
	}
	return 0, err
}

// choosePort returns wanted if it is free, and a port of pick if wanted is 0. A nil
// pick is FreePort.
func choosePort(server string, wanted int, setting string, pick func() (int, error)) (int, error) {
	if wanted != 0 {
		return wanted, checkPort(server, wanted, setting)
	}
	if pick == nil {
		pick = FreePort
	}
	return pick()
}

// checkPort fails if the port cannot be bound. The error names the setting by
// which another can be chosen, if there is one.
func checkPort(server string, port int, setting string) error {
	listener, err := net.Listen("tcp", localAddress(port))
	if err == nil {
		return listener.Close()
	}
	advice := ""
	if setting != "" {
		advice = fmt.Sprintf(" (set %s to another, or to 0 for a free one)", setting)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: port %d is in use by another process%s: %w", server, port, advice, err)
	}
	return fmt.Errorf("%s: port %d cannot be used%s: %w", server, port, advice, err)
}

func localAddress(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
