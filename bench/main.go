// Command bench measures Postrider beside what it is built on and what one could
// use instead, on one machine, in one run.
//
//  1. stack.go starts Postgres, a Temporal dev server and an SMTP sink, and realserver.go
//     a Temporal server on Postgres.
//  2. Each contender (contender.go) is measured in short rounds, A B C A B C, so
//     that whatever else the machine does falls on all of them. A result is the
//     median of its rounds, a ratio the median of the ratios within each round.
//  3. report.go writes the table into docs/benchmarks.md.
//
// It asserts nothing: a target that is missed is written down as missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// settings of a run.
type settings struct {
	// rounds of each contender; mails in each round of one that sends.
	rounds, mails int
	// full adds what takes long: 1,000,000 old rows, 100,000 mails in one go.
	full bool
	// short leaves out the real Temporal server, whose first build takes ten minutes.
	short bool
	// only are the contenders to measure; nil is all.
	only *regexp.Regexp
	// doc is the page to write the results into; empty prints them only.
	doc string
	// repo is the directory of the product's module.
	repo string
	// profile is where CPU profiles are kept; empty keeps none.
	profile string
	// before is the binary of an earlier commit, measured in the same rounds; empty measures none.
	before string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var s settings
	only := ""
	flag.IntVar(&s.rounds, "rounds", 5, "how often each contender is measured")
	flag.IntVar(&s.mails, "mails", 600, "how many mails or runs a round has")
	flag.BoolVar(&s.full, "full", false, "also with 1,000,000 old rows, and 100,000 mails in one go")
	flag.BoolVar(&s.short, "short", false, "without a real Temporal server on Postgres, whose first build takes ten minutes")
	flag.StringVar(&only, "only", "", "measure only the contenders whose id matches this regular expression")
	flag.StringVar(&s.doc, "doc", "", "the page to write the results into")
	flag.StringVar(&s.repo, "repo", "..", "the directory of the product")
	flag.StringVar(&s.profile, "profile", "", "a directory for CPU profiles")
	flag.StringVar(&s.before, "before", "", "the postrider binary of an earlier commit, to measure in the same rounds")
	flag.Parse()
	var err error
	if only != "" {
		if s.only, err = regexp.Compile(only); err != nil {
			return err
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	began := time.Now()
	st, err := startStack(ctx, s)
	if err != nil {
		return err
	}
	defer func() {
		if err := st.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "bench: stop:", err)
		}
	}()
	res, err := measure(ctx, st, s)
	if err != nil {
		return err
	}
	res.took = time.Since(began)
	return errors.Join(res.print(os.Stdout), res.write(s.doc))
}

// say tells what is going on.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%s] %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
