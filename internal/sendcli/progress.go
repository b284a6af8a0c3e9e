package sendcli

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// total is the progress of several batches.
type total struct {
	emails  map[string]int
	details map[email.Detail]int
	rate    float64
	nextAt  time.Time
}

func (t *total) add(p client.BatchProgress) {
	if t.emails == nil {
		t.emails, t.details = map[string]int{}, map[email.Detail]int{}
	}
	for s, n := range p.Emails {
		t.emails[s] += n
	}
	for d, n := range p.Details {
		t.details[d] += n
	}
	t.rate += p.Rate
	if !p.NextAttemptAt.IsZero() && (t.nextAt.IsZero() || p.NextAttemptAt.Before(t.nextAt)) {
		t.nextAt = p.NextAttemptAt
	}
}

func (t *total) all() int { return t.emails["total"] }

func (t *total) open() int {
	return t.emails[string(email.StatusQueued)] + t.emails[string(email.StatusSending)]
}

// still reports whether no e-mail is being sent: each open one is deferred, scheduled or held.
func (t *total) still() bool {
	waiting := 0
	for _, d := range []email.Detail{email.DetailDeferred, email.DetailIPBlocked, email.DetailUnauthenticated, email.DetailPartial, email.DetailScheduled, email.DetailHeld} {
		waiting += t.details[d]
	}
	return t.all() > 0 && t.open() <= waiting
}

// summary lists the counts that are not zero.
func (t *total) summary() string {
	var counts []string
	for _, s := range []email.Status{email.StatusDelivered, email.StatusBounced, email.StatusFailed, email.StatusCanceled} {
		if n := t.emails[string(s)]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, s))
		}
	}
	waiting := 0
	for _, d := range slices.Sorted(maps.Keys(t.details)) {
		counts = append(counts, fmt.Sprintf("%d %s", t.details[d], d))
		waiting += t.details[d]
	}
	if n := t.open() - waiting; n > 0 {
		counts = append(counts, fmt.Sprintf("%d open", n))
	}
	return strings.Join(counts, ", ")
}

// bar shows progress: as a bar on a terminal, as lines elsewhere.
type bar struct {
	out      io.Writer
	terminal bool
	silent   bool
	// last is the last line, written at.
	last string
	at   time.Time
}

func newBar(out io.Writer, silent bool) *bar {
	b := &bar{out: out, silent: silent}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		b.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return b
}

const barWidth = 24

// show writes the progress. If the output is not a terminal, it leaves out a line that repeats
// the last one. It also leaves out one that comes less than lineEvery after it.
func (b *bar) show(t total) {
	if b.silent || t.all() == 0 {
		return
	}
	ended := t.all() - t.open()
	line := fmt.Sprintf("%d of %d (%d%%), %s", ended, t.all(), 100*ended/t.all(), t.summary())
	if t.open() > 0 && t.rate > 0 {
		left := time.Duration(float64(t.open()) / t.rate * float64(time.Second))
		line += fmt.Sprintf(", %.0f/s, %s left", t.rate, left.Round(time.Second))
	}
	if b.terminal {
		full := barWidth * ended / t.all()
		fmt.Fprintf(b.out, "\r[%s%s] %s\x1b[K", strings.Repeat("#", full), strings.Repeat("-", barWidth-full), line)
		b.last = line
		return
	}
	if line == b.last || time.Since(b.at) < lineEvery {
		return
	}
	b.last, b.at = line, time.Now()
	fmt.Fprintln(b.out, line)
}

// end ends the bar's line. It may be called more than once.
func (b *bar) end() {
	if b.terminal && b.last != "" {
		fmt.Fprintln(b.out)
		b.last = ""
	}
}
