package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
)

// cluster is a Temporal server that contenders are measured on.
type cluster struct {
	// id begins the ids of its contenders; empty for the dev server.
	id      string
	address string
	// metrics is the address of its Prometheus metrics; empty if it has none.
	metrics string
}

// serverModule is the real server's module. tools/temporalserver pins its version.
const serverModule = "go.temporal.io/server"

// shards is the number of history shards, as in docker-compose.yml.
const shards = "512"

// startReal starts a Temporal server on Postgres as docker-compose.yml does: its schema by the
// repository's script, the configuration that is embedded in the server, the repository's dynamic
// configuration.
func (st *stack) startReal(ctx context.Context) (*cluster, error) {
	bin, version, err := st.buildServer(ctx)
	if err != nil {
		return nil, fmt.Errorf("build Temporal's server: %w", err)
	}
	say("starting Temporal's server %s on Postgres", version)
	pg, err := url.Parse(st.postgres.URL("postgres"))
	if err != nil {
		return nil, err
	}
	password, _ := pg.User.Password()
	if err := st.schema(ctx, bin, pg, password); err != nil {
		return nil, fmt.Errorf("schema of Temporal: %w", err)
	}
	dynamic, err := filepath.Abs(filepath.Join(st.repo, "deploy", "temporal", "dynamicconfig.yaml"))
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(10)
	if err != nil {
		return nil, err
	}
	c := &cluster{id: "real-", address: localAddress(ports[0]), metrics: localAddress(ports[9])}
	cmd := exec.Command(filepath.Join(bin, "temporal-server"), "start") // ended by stop, with a signal
	cmd.Dir = st.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + st.dir, "DB=postgres12", "DB_PORT=" + pg.Port(), "POSTGRES_SEEDS=" + pg.Hostname(),
		"POSTGRES_USER=" + pg.User.Username(), "POSTGRES_PWD=" + password, "NUM_HISTORY_SHARDS=" + shards, "BIND_ON_IP=127.0.0.1",
		"DYNAMIC_CONFIG_FILE_PATH=" + dynamic, "LOG_LEVEL=warn",
		fmt.Sprintf("FRONTEND_HTTP_PORT=%d", ports[8]), "PROMETHEUS_ENDPOINT=" + c.metrics,
	}
	for i, service := range []string{"FRONTEND", "HISTORY", "MATCHING", "WORKER"} {
		// A membership port has to be below 32768, as free ones are: Temporal keeps it in a smallint.
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s_GRPC_PORT=%d", service, ports[i]), fmt.Sprintf("%s_MEMBERSHIP_PORT=%d", service, ports[4+i]))
	}
	if err := st.run(cmd, "temporal-server.log"); err != nil {
		return nil, err
	}
	st.versions = append(st.versions, "Temporal server "+version+" on Postgres ("+shards+" shards)")
	cl, err := st.client(c, "temporal-system")
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	err = await(ctx, 2*time.Minute, "Temporal's server", func() error {
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := cl.CheckHealth(call, &client.CheckHealthRequest{})
		return err
	})
	return c, err
}

var serverVersion = regexp.MustCompile(`(?m)^\s*(?:require\s+)?` + regexp.QuoteMeta(serverModule) + ` v(\S+)$`)

// buildServer builds the server and its schema tool, once: that takes ten minutes. It returns the
// directory that they are in.
func (st *stack) buildServer(ctx context.Context) (dir, version string, err error) {
	module, err := filepath.Abs(filepath.Join(st.repo, "tools", "temporalserver"))
	if err != nil {
		return "", "", err
	}
	gomod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return "", "", err
	}
	match := serverVersion.FindSubmatch(gomod)
	if match == nil {
		return "", "", fmt.Errorf("%s/go.mod does not require %s", module, serverModule)
	}
	version = string(match[1])
	if dir, err = filepath.Abs(filepath.Join(st.repo, ".postrider", "tools", "temporal-server-"+version)); err != nil {
		return "", "", err
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, version, nil
	}
	say("building Temporal's server %s, once; this takes some ten minutes", version)
	building := dir + ".building"
	for name, pkg := range map[string]string{"temporal-server": "/cmd/server", "temporal-sql-tool": "/cmd/tools/sql"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(building, name), serverModule+pkg)
		cmd.Dir, cmd.Stderr = module, os.Stderr
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		if err := cmd.Run(); err != nil {
			return "", "", errors.Join(err, os.RemoveAll(building))
		}
	}
	return dir, version, os.Rename(building, dir)
}

// schema makes Temporal's two databases by the repository's script.
func (st *stack) schema(ctx context.Context, bin string, pg *url.URL, password string) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", serverModule)
	list.Dir, list.Stderr = filepath.Join(st.repo, "tools", "temporalserver"), os.Stderr
	list.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	source, err := list.Output()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", filepath.Join(st.repo, "deploy", "temporal", "schema.sh"))
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "SCHEMA=" + filepath.Join(strings.TrimSpace(string(source)), "schema"),
		"POSTGRES_HOST=" + pg.Hostname(), "POSTGRES_PORT=" + pg.Port(), "POSTGRES_USER=" + pg.User.Username(), "SQL_PASSWORD=" + password,
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// timeouts is how many workflow tasks of a namespace have timed out, by the server's own count.
func (c *cluster) timeouts(ctx context.Context, namespace string) (n int, err error) {
	if c.metrics == "" {
		return 0, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("metrics of Temporal: %s", res.Status)
	}
	lines := bufio.NewReader(res.Body)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		counts := strings.HasPrefix(line, "start_to_close_timeout{") || strings.HasPrefix(line, "schedule_to_start_timeout{")
		if !counts || !strings.Contains(line, `operation="TimerActiveTaskWorkflowTaskTimeout"`) || !strings.Contains(line, `namespace="`+namespace+`"`) {
			continue
		}
		fields := strings.Fields(line)
		value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("metrics of Temporal: %q: %w", line, err)
		}
		n += int(value)
	}
}
