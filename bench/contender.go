package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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
	// delivered are the times from acceptance to delivery, sorted; only of deployments whose are shown.
	delivered []time.Duration
	// timeouts counts workflow tasks that timed out, on a cluster that counts them.
	timeouts int
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
	// on and namespace are where its runs are; on is nil without any.
	on        *cluster
	namespace string
	// mails is the deployment whose times to delivery are shown; nil for others.
	mails *deployment
	// idle are those of single mails of an idle deployment, sorted.
	idle []time.Duration
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
	st         *stack
	contenders []*contender
	// one is the deployment that everything else is measured on too.
	one *deployment
	// before runs the earlier commit's program; nil without one.
	before *deployment
	// real are those on the real server.
	real []*deployment
	// old are deployments by the number of rows they begin with.
	old map[int]*deployment
}

// title is what a deployment is called.
func (p *plan) title(d *deployment) string {
	for _, c := range p.contenders {
		if c.mails == d {
			return c.title
		}
	}
	return d.name
}

// wanted reports whether one of these contenders is asked for.
func (p *plan) wanted(ids ...string) bool {
	return slices.ContainsFunc(ids, func(id string) bool { return p.st.only == nil || p.st.only.MatchString(id) })
}

// add adds a contender, if it is asked for.
func (p *plan) add(c contender) {
	if p.wanted(c.id) {
		p.contenders = append(p.contenders, &c)
	}
}

// prepare sets up the contenders that are asked for.
func prepare(ctx context.Context, st *stack) (*plan, error) {
	p := &plan{st: st, old: map[int]*deployment{}}
	if err := p.addBare(ctx, st.dev); err != nil {
		return nil, err
	}
	var err error
	if p.one, err = st.deploy(ctx, st.dev, "one", 0, inOne); err != nil {
		return nil, err
	}
	signed, err := p.deploySigned(ctx)
	if err != nil {
		return nil, err
	}
	listed, err := p.deploySuppressed(ctx)
	if err != nil {
		return nil, err
	}
	// A signed row follows the one that it is compared with: Postgres cleans up after a batch for some time.
	p.addRounds("one", "`SendEmail` through REST, API and worker in one process", p.one)
	signed.addOne(p)
	p.addBatch("batch", "`POST /v1.0/emails/batch`, different messages, one process", p.one)
	if listed != nil {
		p.add(contender{id: "batch-suppressed", title: "the same, with " + thousands(suppressed) + " suppressions", run: listed.batchRound})
	}
	signed.addBatches(p)
	p.add(contender{id: "copies", title: "the same, one message with variables for all", run: p.one.copiesRound})
	if listed != nil {
		p.add(contender{id: "copies-suppressed", title: "the same, with " + thousands(suppressed) + " suppressions", run: listed.copiesRound})
	}
	if err := p.addSignatures(); err != nil {
		return nil, err
	}
	if p.wanted("apart") {
		apart, err := st.deploy(ctx, st.dev, "apart", 0, apiAlone, workerAlone)
		if err != nil {
			return nil, err
		}
		p.addRounds("apart", "`SendEmail` through REST, API and worker apart", apart)
	}
	if p.wanted("accept") {
		accept, err := st.deploy(ctx, nil, "accept", 0, apiAlone)
		if err != nil {
			return nil, err
		}
		p.add(contender{id: "accept", title: "accept alone: `POST /v1.0/emails`, 202 after the commit", run: accept.acceptRound})
	}
	if st.real != nil {
		if err := p.addReal(ctx); err != nil {
			return nil, err
		}
	}
	if st.settings.before != "" {
		if err := p.addBefore(ctx); err != nil {
			return nil, err
		}
	}
	if err := p.addPeers(ctx); err != nil {
		return nil, err
	}
	sizes := []int{10_000, 100_000}
	if st.full {
		sizes = append(sizes, 1_000_000)
	}
	for _, n := range sizes {
		id := fmt.Sprintf("old-%d", n)
		if !p.wanted(id) {
			continue
		}
		if p.old[n], err = st.deploy(ctx, st.dev, fmt.Sprintf("old%d", n), n, inOne); err != nil {
			return nil, err
		}
		p.add(contender{id: id, title: "one process, with " + thousands(n) + " e-mails in the tables", run: p.old[n].round})
	}
	return p, nil
}

// These are the processes that deployments consist of.
var (
	inOne       = []string{"serve", "--worker"}
	apiAlone    = []string{"serve"}
	workerAlone = []string{"worker"}
)

// addBare sets up the workflows that do nothing.
func (p *plan) addBare(ctx context.Context, on *cluster) error {
	empty, eager, apart := on.id+"bare-empty", on.id+"bare-eager", on.id+"bare-apart"
	if !p.wanted(empty, eager, apart) {
		return nil
	}
	b, err := newBare(ctx, p.st, on)
	if err != nil {
		return err
	}
	add := func(id, title, name string, eager bool) {
		p.add(contender{id: id, title: title, on: on, namespace: "bare", run: func(ctx context.Context) (sample, error) {
			return timed(p.st.mails, func() error { return b.run(ctx, name, eager, p.st.mails) })
		}})
	}
	add(empty, "bare workflow, empty, eager start: the limit", "empty", true)
	add(eager, "bare workflow of our shape, eager start", "shape", true)
	add(apart, "bare workflow of our shape, not eager", "shape", false)
	return nil
}

// addRounds measures single mails through REST.
func (p *plan) addRounds(id, title string, d *deployment) {
	p.add(contender{id: id, title: title, run: d.round, on: d.on, namespace: d.name, mails: d})
}

// addBatch measures batches of different messages.
func (p *plan) addBatch(id, title string, d *deployment) {
	p.add(contender{id: id, title: title, run: d.batchRound, on: d.on, namespace: d.name, mails: d})
}

// addReal sets up what is measured on the real Temporal server.
func (p *plan) addReal(ctx context.Context) error {
	on := p.st.real
	if err := p.addBare(ctx, on); err != nil {
		return err
	}
	for _, shape := range []struct {
		id, title string
		processes [][]string
	}{
		{"one", "`serve --worker`", [][]string{inOne}},
		{"two", "`serve --worker`, twice", [][]string{inOne, inOne}},
		{"apart1", "`serve` and one worker", [][]string{apiAlone, workerAlone}},
		{"apart2", "`serve` and two workers", [][]string{apiAlone, workerAlone, workerAlone}},
		{"apart4", "`serve` and four workers", [][]string{apiAlone, workerAlone, workerAlone, workerAlone, workerAlone}},
	} {
		id, batch := on.id+shape.id, on.id+"batch"
		if !p.wanted(id) && (shape.id != "one" || !p.wanted(batch)) {
			continue
		}
		d, err := p.st.deploy(ctx, on, strings.ReplaceAll(id, "-", "_"), 0, shape.processes...)
		if err != nil {
			return err
		}
		p.real = append(p.real, d)
		p.addRounds(id, shape.title, d)
		if shape.id == "one" {
			p.addBatch(batch, "`serve --worker`, batches of different messages", d)
		}
	}
	return nil
}

// addBefore sets up an earlier commit's program, in the same two shapes.
func (p *plan) addBefore(ctx context.Context) error {
	if p.wanted("before-one", "before-batch") {
		one, err := p.st.deployOf(ctx, p.st.dev, p.st.settings.before, "before_one", 0, inOne)
		if err != nil {
			return err
		}
		p.before = one
		p.add(contender{id: "before-one", title: "the earlier commit: `SendEmail` through REST, one process", run: one.round})
		p.add(contender{id: "before-batch", title: "the earlier commit: `POST /v1.0/emails/batch`, different messages", run: one.batchRound})
	}
	if p.wanted("before-accept") {
		accept, err := p.st.deployOf(ctx, nil, p.st.settings.before, "before_accept", 0, apiAlone)
		if err != nil {
			return err
		}
		p.add(contender{id: "before-accept", title: "the earlier commit: accept alone", run: accept.acceptRound})
	}
	return nil
}

// addPeers sets up what is not ours.
func (p *plan) addPeers(ctx context.Context) error {
	if p.wanted("river-insert", "river-send") {
		q, err := newQueue(ctx, p.st)
		if err != nil {
			return err
		}
		p.add(contender{id: "river-insert", title: "River: insert a job, nothing else", run: func(ctx context.Context) (sample, error) {
			n := p.st.mails * acceptFactor
			return timed(n, func() error { return q.insert(ctx, n, clients) })
		}})
		p.add(contender{id: "river-send", title: "River and go-mail: insert mail and job, send, two updates", run: func(ctx context.Context) (sample, error) {
			n := p.st.mails * queueFactor
			took, err := q.send(ctx, n, clients)
			return sample{n: n, took: took}, err
		}})
	}
	for _, reuse := range []bool{false, true} {
		id, title := "raw-dial", "go-mail in a loop, a connection for each mail"
		if reuse {
			id, title = "raw-reuse", "go-mail in a loop, connections kept"
		}
		p.add(contender{id: id, title: title, run: func(ctx context.Context) (sample, error) {
			n := p.st.mails * rawFactor
			return timed(n, func() error { return sendRaw(ctx, p.st.sinkPort, n, 8, reuse) })
		}})
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

// measure runs one round, with what others count of it.
func (c *contender) measure(ctx context.Context) (s sample, err error) {
	settle(ctx)
	var begin time.Time
	if c.mails != nil {
		if err := c.mails.pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&begin); err != nil {
			return s, err
		}
	}
	timeouts, err := c.timeouts(ctx)
	if err != nil {
		return s, err
	}
	before := readCPU()
	if s, err = c.run(ctx); err != nil {
		return s, err
	}
	settle(ctx)
	s.cpu = readCPU().since(before)
	after, err := c.timeouts(ctx)
	if err != nil {
		return s, err
	}
	s.timeouts = after - timeouts
	if c.mails != nil {
		s.delivered, err = c.mails.delivered(ctx, begin)
	}
	return s, err
}

func (c *contender) timeouts(ctx context.Context) (int, error) {
	if c.on == nil {
		return 0, nil
	}
	return c.on.timeouts(ctx, c.namespace)
}

// allTimeouts is how many workflow tasks timed out in all rounds.
func (c *contender) allTimeouts() (n int) {
	for _, s := range c.samples {
		n += s.timeouts
	}
	return n
}

// deliveredPercentile is the median over the rounds.
func (c *contender) deliveredPercentile(p int) time.Duration {
	return c.medianOf(func(s sample) time.Duration { return percentile(s.delivered, p) })
}

// acceptPercentile is the median over the rounds.
func (c *contender) acceptPercentile(p int) time.Duration {
	return c.medianOf(func(s sample) time.Duration { return percentile(s.accepts, p) })
}

func (c *contender) medianOf(of func(sample) time.Duration) time.Duration {
	var all []float64
	for _, s := range c.samples {
		all = append(all, of(s).Seconds())
	}
	return time.Duration(median(all) * float64(time.Second))
}

// delivered are the times from acceptance to delivery of what was accepted since, sorted.
func (d *deployment) delivered(ctx context.Context, since time.Time) ([]time.Duration, error) {
	rows, err := d.pool.Query(ctx, `SELECT extract(epoch FROM v.at - e.created_at)::float8 FROM emails AS e JOIN email_events AS v ON v.email_id = e.id AND v.type = 'email.delivered'
		WHERE e.created_at >= $1 ORDER BY 1`, since)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (time.Duration, error) {
		var seconds float64
		err := row.Scan(&seconds)
		return time.Duration(seconds * float64(time.Second)), err
	})
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
