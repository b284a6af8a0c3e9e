package smtp

import (
	"cmp"
	"time"
)

// Timeouts of a transaction's phases. The defaults follow RFC 5321 section
// 4.5.3.2: a short one at the end makes duplicates.
type Timeouts struct {
	// Connect covers TCP, greeting, EHLO, STARTTLS and AUTH together. Defaults to 1 min,
	// to which a relay's greeting_timeout is added.
	Connect time.Duration
	// Greeting is for the first reply. Defaults to 20 s, where RFC 5321 section 4.5.3.2.1 allows
	// 5 min. A relay that is silent for longer is misconfigured more often than slow, and mail
	// would wait for it without a reason. The relay's option greeting_timeout replaces it.
	Greeting time.Duration
	// Silence is how long the first reply may take before a second connection tries TLS.
	// Defaults to 3 s.
	Silence time.Duration
	// Command is for MAIL and each RCPT. Defaults to 5 min.
	Command time.Duration
	// DataInit is for the answer to DATA. Defaults to 2 min.
	DataInit time.Duration
	// DataBlock is for each 64 KiB of the message. Defaults to 3 min.
	DataBlock time.Duration
	// Final is for the answer to the final dot. Defaults to 10 min.
	Final time.Duration
	// Reset is for RSET, NOOP and QUIT. Defaults to 10 s.
	Reset time.Duration
}

// ForGreeting is how long a server's first reply may take.
func (t Timeouts) ForGreeting(server Server) time.Duration {
	return cmp.Or(server.Greeting, t.orDefaults().Greeting)
}

func (t Timeouts) orDefaults() Timeouts {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.Connect, time.Minute},
		{&t.Greeting, 20 * time.Second}, {&t.Silence, 3 * time.Second}, {&t.Command, 5 * time.Minute}, {&t.DataInit, 2 * time.Minute},
		{&t.DataBlock, 3 * time.Minute}, {&t.Final, 10 * time.Minute}, {&t.Reset, 10 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	return t
}
