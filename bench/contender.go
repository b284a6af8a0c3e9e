package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/internal/dbtest"
)

// sample is what one round of one contender did.
type sample struct {
	n    int
	took time.Duration
	// accepts are the times of the answers of an API, sorted; accepted is when the
	// last of them was there.
	accepts  []time.Duration
	accepted time.Duration
	// cpu is what was used until the machine was quiet again.
	cpu cpu
}

// rate is how many came to their end in a second.
func (s sample) rate() float64 { return float64(s.n) / s.took.Seconds() }

// contender is something to be measured.
type contender struct {
	id    string
	title string
	// run does one round.
	run func(ctx context.Context) (sample, error)
	// samples are those of its rounds.
	samples []sample
}

func (c *contender) rates() []float64 {
	out := make([]float64, len(c.samples))
	for i, s := range c.samples {
		out[i] = s.rate()
	}
	return out
}

// perMail is the median of what a group used for a mail.
func (c *contender) perMail(g group) time.Duration {
	var all []float64
	for _, s := range c.samples {
		all = append(all, s.cpu[g].Seconds()/float64(s.n))
	}
	return time.Duration(median(all) * float64(time.Second))
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted)%2 == 1 {
		return sorted[len(sorted)/2]
	}
	return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
}

// timed measures fn alone.
func timed(n int, fn func() error) (sample, error) {
	begin := time.Now()
	err := fn()
	return sample{n: n, took: time.Since(begin)}, err
}

// clients is how many send at once.
const clients = 64

// acceptMails and so on: these are so much faster that a round of the others'
// length would be over before it began.
const (
	acceptFactor = 4
	queueFactor  = 16
	rawFactor    = 8
)

// plan is what a run measures with.
type plan struct {
	contenders []*contender
	// one is the deployment that everything else is measured on too.
	one *deployment
	// before runs the earlier commit's program; nil without one.
	before *deployment
	// old are deployments by the number of rows they begin with.
	old map[int]*deployment
}

// prepare sets up the contenders that are asked for.
func prepare(ctx context.Context, st *stack) (*plan, error) {
	p := &plan{old: map[int]*deployment{}}
	wanted := func(id string) bool { return st.only == nil || st.only.MatchString(id) }
	add := func(id, title string, run func(ctx context.Context) (sample, error)) {
		if wanted(id) {
			p.contenders = append(p.contenders, &contender{id: id, title: title, run: run})
		}
	}
	if wanted("bare") {
		b, err := newBare(ctx, st)
		if err != nil {
			return nil, err
		}
		bareRun := func(name string, eager bool) func(context.Context) (sample, error) {
			return func(ctx context.Context) (sample, error) {
				return timed(st.mails, func() error { return b.run(ctx, name, eager, st.mails) })
			}
		}
		add("bare-empty", "bare workflow, empty, eager start: the limit", bareRun("empty", true))
		add("bare-eager", "bare workflow of our shape, eager start", bareRun("shape", true))
		add("bare-apart", "bare workflow of our shape, not eager", bareRun("shape", false))
	}
	var err error
	if p.one, err = st.deploy(ctx, "one", 0, true, []string{"serve", "--worker"}); err != nil {
		return nil, err
	}
	add("one", "`SendEmail` through REST, API and worker in one process", p.one.round)
	add("batch", "`POST /v1.0/emails/batch`, different messages, one process", p.one.batchRound)
	add("copies", "the same, one message with variables for all", p.one.copiesRound)
	if wanted("apart") {
		apart, err := st.deploy(ctx, "apart", 0, true, []string{"serve"}, []string{"worker"})
		if err != nil {
			return nil, err
		}
		add("apart", "`SendEmail` through REST, API and worker apart", apart.round)
	}
	if wanted("accept") {
		accept, err := st.deploy(ctx, "accept", 0, false, []string{"serve"})
		if err != nil {
			return nil, err
		}
		add("accept", "accept alone: `POST /v1.0/emails`, 202 after the commit", accept.acceptRound)
	}
	if st.before != "" {
		if err := st.addBefore(ctx, p, add, wanted); err != nil {
			return nil, err
		}
	}
	if err := st.addPeers(ctx, add, wanted); err != nil {
		return nil, err
	}
	sizes := []int{10_000, 100_000}
	if st.full {
		sizes = append(sizes, 1_000_000)
	}
	for _, n := range sizes {
		id := fmt.Sprintf("old-%d", n)
		if !wanted(id) {
			continue
		}
		if p.old[n], err = st.deploy(ctx, fmt.Sprintf("old%d", n), n, true, []string{"serve", "--worker"}); err != nil {
			return nil, err
		}
		add(id, "one process, with "+thousands(n)+" e-mails in the tables", p.old[n].round)
	}
	return p, nil
}

// addBefore sets up an earlier commit's program, in the same two shapes.
func (st *stack) addBefore(ctx context.Context, p *plan, add func(string, string, func(context.Context) (sample, error)), wanted func(string) bool) error {
	if wanted("before-one") || wanted("before-batch") {
		one, err := st.deployOf(ctx, st.before, "before_one", 0, true, []string{"serve", "--worker"})
		if err != nil {
			return err
		}
		p.before = one
		add("before-one", "the earlier commit: `SendEmail` through REST, one process", one.round)
		add("before-batch", "the earlier commit: `POST /v1.0/emails/batch`, different messages", one.batchRound)
	}
	if wanted("before-accept") {
		accept, err := st.deployOf(ctx, st.before, "before_accept", 0, false, []string{"serve"})
		if err != nil {
			return err
		}
		add("before-accept", "the earlier commit: accept alone", accept.acceptRound)
	}
	return nil
}

// addPeers sets up what is not ours.
func (st *stack) addPeers(ctx context.Context, add func(string, string, func(context.Context) (sample, error)), wanted func(string) bool) error {
	if wanted("river") {
		q, err := newQueue(ctx, st)
		if err != nil {
			return err
		}
		add("river-insert", "River: insert a job, nothing else", func(ctx context.Context) (sample, error) {
			n := st.mails * acceptFactor
			return timed(n, func() error { return q.insert(ctx, n, clients) })
		})
		add("river-send", "River and go-mail: insert mail and job, send, two updates", func(ctx context.Context) (sample, error) {
			n := st.mails * queueFactor
			took, err := q.send(ctx, n, clients)
			return sample{n: n, took: took}, err
		})
	}
	for _, reuse := range []bool{false, true} {
		id, title := "raw-dial", "go-mail in a loop, a connection for each mail"
		if reuse {
			id, title = "raw-reuse", "go-mail in a loop, connections kept"
		}
		add(id, title, func(ctx context.Context) (sample, error) {
			n := st.mails * rawFactor
			return timed(n, func() error { return sendRaw(ctx, st.sinkPort, n, 8, reuse) })
		})
	}
	return nil
}

// round sends mails through REST and waits until all have ended.
func (d *deployment) round(ctx context.Context) (s sample, err error) {
	begin := time.Now()
	s.n = d.st.mails
	if s.accepts, err = d.post(ctx, s.n, clients); err != nil {
		return s, err
	}
	s.accepted = time.Since(begin)
	err = d.drained(ctx)
	s.took = time.Since(begin)
	return s, err
}

// acceptRound only has them accepted; no process starts their runs.
func (d *deployment) acceptRound(ctx context.Context) (s sample, err error) {
	begin := time.Now()
	s.n = d.st.mails * acceptFactor
	s.accepts, err = d.post(ctx, s.n, clients)
	s.took = time.Since(begin)
	return s, err
}

// idle sends n mails one after the other. It returns how long each took, sorted: from the
// request to the end of the transaction that made it delivered.
func (d *deployment) idle(ctx context.Context, n int) (took []time.Duration, err error) {
	for range n {
		begin := time.Now()
		if _, err := d.post(ctx, 1, 1); err != nil {
			return nil, err
		}
		for open := 1; open > 0; {
			if open, err = d.open(ctx); err != nil {
				return nil, err
			}
		}
		took = append(took, time.Since(begin))
		time.Sleep(20 * time.Millisecond) // what is left of it, and then nothing: idle
	}
	slices.Sort(took)
	return took, nil
}

// fill gives the database old e-mails.
func (d *deployment) fill(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	var customer string
	if err := d.pool.QueryRow(ctx, "SELECT id::text FROM customers").Scan(&customer); err != nil {
		return err
	}
	say("%s: writing %s old e-mails", d.name, thousands(n))
	return dbtest.Fill(ctx, d.st.postgres.URL(d.name), customer, n)
}
