package smtptest

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// offersPipelining: peers offer PIPELINING also where their Extensions do not name it.
var offersPipelining bool

// RunBothWays runs the tests of a package twice: with peers that do not offer PIPELINING, and
// with peers that do. A fuzz target runs once, with it. It is for TestMain and gives the exit
// code.
func RunBothWays(m *testing.M) int {
	flag.Parse()
	code := 0
	for _, offersPipelining = range []bool{false, true} {
		if fuzz := flag.Lookup("test.fuzz").Value.String() != ""; fuzz && !offersPipelining {
			continue
		}
		if one := m.Run(); one != 0 {
			fmt.Fprintf(os.Stderr, "failed where peers offer PIPELINING: %t\n", offersPipelining)
			code = one
		}
	}
	return code
}

// OffersPipelining reports whether peers offer PIPELINING in this run of the tests.
func OffersPipelining() bool { return offersPipelining }
