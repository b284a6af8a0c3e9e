package devstack

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"

	"github.com/uptrace/bun/driver/pgdriver"
)

// postgresUser is the superuser of every private Postgres.
const postgresUser = "postrider"

// PostgresOptions says where and how a private Postgres runs.
type PostgresOptions struct {
	// Dir keeps the data (Dir/postgres) and a downloaded Postgres
	// (Dir/binaries). It is created if need be. Empty is a temporary directory
	// that is removed when the server ends, however it ends.
	Dir string
	// DirSetting is the setting that Dir came from, for errors. May be empty.
	DirSetting string

	// Port on 127.0.0.1. 0 is a free one, another at each start.
	Port int
	// PortSetting is the setting that Port came from, for errors. May be empty.
	PortSetting string

	// Durable makes commits survive a crash of the machine. Without it Postgres
	// does not sync and does not vacuum: for tests.
	Durable bool

	// MaxConnections is how many clients may be connected at once. Defaults to 400.
	MaxConnections int

	// Repository is the Maven repository a Postgres is downloaded from where none
	// is installed. Empty is Maven Central.
	Repository string

	// Log receives progress in lines. Nil discards them.
	Log io.Writer

	freePort func() (int, error) // nil is FreePort
}

// Postgres is a running private server.
type Postgres struct {
	*server
	cluster *cluster
	port    int
}

// StartPostgres starts a server and returns when it answers queries. ctx bounds
// the start only; the server runs until Stop, or until the current process ends
// in any way. Data in Dir survives.
//
// Errors say what to do. StartPostgres fails if
//   - the port is taken,
//   - a server is running in Dir,
//   - another major version than the one found made Dir,
//   - the unprivileged user may not enter Dir, or
//   - no Postgres is found or downloaded.
func StartPostgres(ctx context.Context, options PostgresOptions) (*Postgres, error) {
	log := orDiscard(options.Log)
	if options.Port != 0 {
		if err := checkPort("postgres", options.Port, options.PortSetting); err != nil {
			return nil, err
		}
	}
	cluster, err := openCluster(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	binaries, err := cluster.findBinaries(ctx, options, log)
	if err == nil {
		err = cluster.prepare(ctx, binaries, log)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("postgres: %w", err), cluster.close())
	}
	for attempt := 1; ; attempt++ {
		port, err := choosePort("postgres", options.Port, options.PortSetting, options.freePort)
		if err != nil {
			return nil, errors.Join(err, cluster.close())
		}
		p, err := cluster.serve(ctx, binaries, port)
		if err == nil {
			fmt.Fprintf(log, "postgres: %s on %s as %s, %s\n", binaries.version, localAddress(port), cluster.account, cluster.dir)
			return p, nil
		}
		// Our server is gone. If the port that was free is not now, another process
		// took it.
		if taken := checkPort("postgres", port, options.PortSetting); taken == nil || attempt == portAttempts {
			return nil, errors.Join(fmt.Errorf("postgres: %w", err), cluster.close())
		} else if options.Port != 0 {
			return nil, errors.Join(taken, cluster.close())
		}
	}
}

// serve starts the server on the port and waits until it answers. When it fails,
// the server has ended and the cluster is still open.
func (c *cluster) serve(ctx context.Context, binaries binaries, port int) (*Postgres, error) {
	output, err := openLog(c.logPath())
	if err != nil {
		return nil, err
	}
	process, err := c.command(binaries, port, output.file).start()
	if err != nil {
		return nil, errors.Join(err, output.close())
	}
	p := &Postgres{cluster: c, port: port}
	if err := awaitReady(ctx, process, p.answers); err != nil {
		err = fmt.Errorf("%w%s", err, output.tail())
		return nil, errors.Join(err, process.stop(context.WithoutCancel(ctx)), output.close())
	}
	p.server = newServer(process, output, c.close)
	return p, nil
}

// answers asks once whether the server takes our password and queries.
func (p *Postgres) answers(ctx context.Context) error {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(p.URL("postgres"))))
	return errors.Join(db.PingContext(ctx), db.Close())
}

// URL returns the address of a database of the server, with the password.
func (p *Postgres) URL(database string) string {
	return (&url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(postgresUser, p.cluster.password),
		Host:     localAddress(p.port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}).String()
}

// Port returns the port of 127.0.0.1 the server listens on.
func (p *Postgres) Port() int { return p.port }

// command is what runs the cluster on the port.
func (c *cluster) command(binaries binaries, port int, output *os.File) command {
	settings := []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=", // it may not write the compiled-in one
		"max_connections=" + strconv.Itoa(cmp.Or(c.maxConnections, 400)),
		"log_line_prefix=%m [%p] ",
		"timezone=UTC", "log_timezone=UTC",
	}
	if !c.durable {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off",
			"wal_level=minimal", "max_wal_senders=0", "autovacuum=off")
	}
	args := []string{"-D", c.seen("data"), "-p", strconv.Itoa(port)}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	remove := ""
	if c.temporary {
		remove = c.dir
	}
	return command{name: "postgres", path: binaries.path("postgres"), args: args, env: c.environment(), stop: "INT",
		account: c.account, files: c.files(), output: output, remove: remove}
}
