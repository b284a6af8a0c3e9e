// Package deploy_test checks docker-compose.yml and the Dockerfile without a
// Docker engine: what they name exists, and fits together.
package deploy_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/postrider/postrider/internal/config"
)

const root = ".."

// commands are postrider's subcommands that a container may run, with the
// settings they are loaded with. Probes load none.
var commands = map[string]config.Use{
	"serve": config.Serve, "serve --worker": config.ServeWorker, "worker": config.Worker, "migrate up": config.Migrate,
	"health": 0, "health --worker": 0, "health --ready": 0, "health --worker --ready": 0,
}

type composeFile struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image string `yaml:"image"`
	Build *struct {
		Context    string `yaml:"context"`
		Dockerfile string `yaml:"dockerfile"`
		// Args are what the Dockerfile is built with.
		Args map[string]string `yaml:"args"`
	} `yaml:"build"`
	Restart     string               `yaml:"restart"`
	Environment map[string]string    `yaml:"environment"`
	Entrypoint  []string             `yaml:"entrypoint"`
	Command     []string             `yaml:"command"`
	Volumes     []string             `yaml:"volumes"`
	Ports       []string             `yaml:"ports"`
	DependsOn   map[string]condition `yaml:"depends_on"`
	Healthcheck *struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
	Container string `yaml:"container_name"`
	Deploy    struct {
		Replicas  int `yaml:"replicas"`
		Resources struct {
			Limits map[string]string `yaml:"limits"`
		} `yaml:"resources"`
	} `yaml:"deploy"`
	Logging struct {
		Driver  string            `yaml:"driver"`
		Options map[string]string `yaml:"options"`
	} `yaml:"logging"`
}

type condition struct {
	Condition string `yaml:"condition"`
}

const (
	healthy   = "service_healthy"
	completed = "service_completed_successfully"
)

// checkCompose returns what is wrong with a compose file whose paths are relative
// to dir.
func checkCompose(text []byte, dir string) ([]string, error) {
	var file composeFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	dev, err := devEnv()
	if err != nil {
		return nil, err
	}
	if len(file.Services) == 0 {
		return nil, errors.New("no services")
	}
	var wrong []string
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	oneShots := map[string]bool{} // another service waits for them to complete
	for _, s := range file.Services {
		for target, c := range s.DependsOn {
			oneShots[target] = oneShots[target] || c.Condition == completed
		}
	}
	published, mounted := map[string]string{}, map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(file.Services)) {
		s := file.Services[name]
		checkImage(name, s, dir, report)
		checkEnds(name, s, oneShots[name], report)
		for _, target := range slices.Sorted(maps.Keys(s.DependsOn)) {
			checkDependency(name, target, s.DependsOn[target], file.Services, oneShots, report)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(source, ".") {
				mounted[source] = true
				if _, ok := file.Volumes[source]; !ok {
					report("%s: volume %s is not declared", name, source)
				}
			} else if _, err := os.Stat(filepath.Join(dir, source)); err != nil {
				report("%s: %s does not exist", name, source)
			}
		}
		for _, p := range s.Ports {
			host := p[:max(0, strings.LastIndex(p, ":"))]
			if other := published[host]; other != "" {
				report("%s: port %s is published by %s, too", name, host, other)
			}
			published[host] = name
			if !strings.HasPrefix(host, "127.0.0.1:") {
				report("%s: port %s is open to everybody", name, p)
			}
			if s.Deploy.Replicas > 1 {
				report("%s: %d replicas cannot share port %s", name, s.Deploy.Replicas, host)
			}
		}
		if s.Container != "" && s.Deploy.Replicas > 1 {
			report("%s: %d replicas cannot share a name", name, s.Deploy.Replicas)
		}
		checkPostrider(name, s, dev, report)
		checkLimits(name, s, report)
		checkScript(name, s, dir, report)
	}
	for _, v := range slices.Sorted(maps.Keys(file.Volumes)) {
		if !mounted[v] {
			report("volume %s is not used", v)
		}
	}
	return wrong, nil
}

// tag is a version that does not move from one release to another: two numbers
// at the least. local is what compose builds.
var tag = regexp.MustCompile(`^v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$`)

func checkImage(name string, s service, dir string, report func(string, ...any)) {
	if s.Build != nil {
		if _, err := os.Stat(filepath.Join(dir, s.Build.Context, s.Build.Dockerfile)); err != nil || s.Build.Dockerfile == "" {
			report("%s: Dockerfile %q does not exist in %q", name, s.Build.Dockerfile, s.Build.Context)
		}
		return
	}
	_, version, _ := strings.Cut(s.Image, ":")
	if !tag.MatchString(version) {
		report("%s: image %q is not pinned to a version", name, s.Image)
	}
}

// checkLimits wants a bound for what a container takes of the machine, and for its log.
func checkLimits(name string, s service, report func(string, ...any)) {
	for _, what := range []string{"memory", "cpus", "pids"} {
		if s.Deploy.Resources.Limits[what] == "" {
			report("%s: has no limit of %s", name, what)
		}
	}
	if s.Logging.Driver != "json-file" || s.Logging.Options["max-size"] == "" || s.Logging.Options["max-file"] == "" {
		report("%s: its log grows without end", name)
	}
}

// checkEnds wants a health check of each service that runs on. A service that ends must
// be safe to repeat, and another one must wait for it.
func checkEnds(name string, s service, oneShot bool, report func(string, ...any)) {
	switch {
	case s.Healthcheck == nil && !oneShot:
		report("%s: has no health check, and nobody waits for it to complete", name)
	case s.Healthcheck != nil && oneShot:
		report("%s: is waited for to complete, but has a health check", name)
	case s.Healthcheck != nil && (len(s.Healthcheck.Test) < 2 || s.Healthcheck.Test[0] != "CMD"):
		report("%s: health check %q does not run a program", name, s.Healthcheck.Test)
	case oneShot && !strings.HasPrefix(s.Restart, "on-failure:"):
		report("%s: restart %q of what has to end, want on-failure:N", name, s.Restart)
	case !oneShot && s.Restart != "unless-stopped":
		report("%s: restart %q of what runs on, want unless-stopped", name, s.Restart)
	}
}

func checkDependency(name, target string, c condition, all map[string]service, oneShots map[string]bool, report func(string, ...any)) {
	s, ok := all[target]
	switch {
	case !ok:
		report("%s: depends on %s, which is not a service", name, target)
	case c.Condition != healthy && c.Condition != completed:
		report("%s: depends on %s without a condition that is worth waiting for: %q", name, target, c.Condition)
	case c.Condition == healthy && (s.Healthcheck == nil || oneShots[target]):
		report("%s: waits for %s to be healthy, which it never says", name, target)
	}
}

// checkPostrider loads the settings of our own services as they would themselves.
func checkPostrider(name string, s service, dev map[string]string, report func(string, ...any)) {
	if s.Build == nil {
		for v := range s.Environment {
			if strings.HasPrefix(v, "POSTRIDER_") {
				report("%s: is not ours, but is given %s", name, v)
			}
		}
		return
	}
	use, ok := commands[strings.Join(s.Command, " ")]
	if !ok || use == 0 {
		report("%s: postrider has no command %q", name, s.Command)
		return
	}
	var env []string
	for _, v := range slices.Sorted(maps.Keys(s.Environment)) {
		value, missing := interpolate(s.Environment[v], dev)
		if len(missing) > 0 {
			report("%s: dev.env does not set %s", name, missing)
		}
		env = append(env, v+"="+value)
		if v != "DATABASE_URL" && !strings.HasPrefix(v, "POSTRIDER_") && !slices.Contains(config.TemporalVariables(), v) {
			report("%s: nothing reads %s", name, v)
		}
	}
	if _, err := config.Load(env, use, config.Checks{}); err != nil {
		report("%s: %v", name, err)
	}
	if s.Environment["TEMPORAL_ADDRESS"] == "" {
		report("%s: has no TEMPORAL_ADDRESS", name)
	}
	if s.Healthcheck != nil && len(s.Healthcheck.Test) > 1 {
		probe := strings.Join(s.Healthcheck.Test[2:], " ")
		if use, ok := commands[probe]; !ok || use != 0 || s.Healthcheck.Test[1] != "/postrider" {
			report("%s: postrider has no probe %q", name, s.Healthcheck.Test[1:])
		}
		if strings.Contains(probe, "--worker") != (s.Command[0] == "worker") {
			report("%s: the probe %q is for another command than %q", name, probe, s.Command)
		}
	}
}

// variable is one that compose fills in: with a default after :-, or required, with a
// hint after :?.
var variable = regexp.MustCompile(`\$\{([A-Z_]+):([-?])([^}]*)\}`)

// interpolate gives the value that compose would with these variables set, and the
// required ones that are missing.
func interpolate(value string, set map[string]string) (out string, missing []string) {
	out = variable.ReplaceAllStringFunc(value, func(found string) string {
		m := variable.FindStringSubmatch(found)
		switch {
		case set[m[1]] != "":
			return set[m[1]]
		case m[2] == "?":
			missing = append(missing, m[1])
			return ""
		}
		return m[3]
	})
	return out, missing
}

// devEnv is the env file for a trial.
func devEnv() (map[string]string, error) {
	text, err := os.ReadFile("dev.env")
	if err != nil {
		return nil, err
	}
	set := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("dev.env: %q sets nothing", line)
		}
		set[name] = value
	}
	return set, nil
}

// checkScript wants the script that a service runs to be mounted and to parse.
func checkScript(name string, s service, dir string, report func(string, ...any)) {
	if !slices.Equal(s.Entrypoint, []string{"/bin/sh"}) {
		return
	}
	for _, v := range s.Volumes {
		parts := strings.Split(v, ":")
		if len(s.Command) != 1 || len(parts) < 2 {
			continue
		}
		if rest, ok := strings.CutPrefix(s.Command[0], parts[1]+"/"); ok {
			if out, err := exec.Command("sh", "-n", filepath.Join(dir, parts[0], rest)).CombinedOutput(); err != nil {
				report("%s: %s does not parse: %s", name, rest, out)
			}
			return
		}
	}
	report("%s: script %q is not mounted", name, s.Command)
}

func composeText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	return string(text)
}

func TestCompose(t *testing.T) {
	t.Parallel()
	text := composeText(t)
	wrong, err := checkCompose([]byte(text), root)
	require.NoError(t, err)
	require.Empty(t, wrong)

	var file composeFile
	require.NoError(t, yaml.Unmarshal([]byte(text), &file))
	require.Equal(t, []string{"api", "mailpit", "migrate", "postgres", "postgres-roles", "temporal", "temporal-namespace", "temporal-schema", "temporal-ui", "worker"},
		slices.Sorted(maps.Keys(file.Services)))
	require.Equal(t, 2, file.Services["worker"].Deploy.Replicas)
	require.Equal(t, strings.Replace(file.Services["temporal"].Image, "server", "admin-tools", 1), file.Services["temporal-schema"].Image, "one version")
	require.Equal(t, file.Services["temporal-schema"].Image, file.Services["temporal-namespace"].Image)
	// The file holds no secret and no default for one.
	for name, s := range file.Services {
		for v, value := range s.Environment {
			if strings.Contains(v, "PASSWORD") || strings.Contains(v, "PWD") || v == "DATABASE_URL" || v == "POSTRIDER_SECRET_KEY" {
				_, missing := interpolate(value, nil)
				require.Len(t, missing, 1, "%s: %s is required", name, v)
			}
		}
	}
	require.NotContains(t, text, "dev-only-")
	require.NotContains(t, text, "ZGV2LW9ubHkt", "dev-only- in base64")

	// Three roles: only one service is given the superuser's password.
	for name, s := range file.Services {
		for v, value := range s.Environment {
			if strings.Contains(value, "POSTGRES_SUPERUSER_PASSWORD") {
				require.Contains(t, []string{"postgres", "postgres-roles"}, name, v)
			}
		}
	}
	require.Equal(t, "postgres", file.Services["postgres"].Environment["POSTGRES_USER"])
	require.Equal(t, "temporal", file.Services["temporal"].Environment["POSTGRES_USER"])
	require.Equal(t, "temporal", file.Services["temporal-schema"].Environment["POSTGRES_USER"])
	require.Equal(t, "false", file.Services["temporal-schema"].Environment["CREATE_DATABASES"], "its role may not (TestRoles)")
	for _, name := range []string{"migrate", "api", "worker"} {
		require.Contains(t, file.Services[name].Environment["DATABASE_URL"], "postgres://postrider:", name)
		require.Equal(t, "${VERSION:-dev}", file.Services[name].Build.Args["VERSION"], name)
	}
	require.Equal(t, "512", file.Services["temporal"].Environment["NUM_HISTORY_SHARDS"])
	require.Contains(t, file.Services["api"].Healthcheck.Test, "--ready")
	require.Contains(t, file.Services["worker"].Healthcheck.Test, "--ready")
}

func TestComposeCheckGoesRed(t *testing.T) {
	t.Parallel()
	text := composeText(t)
	for name, m := range map[string]struct{ old, new, want string }{
		"no memory limit":        {`limits: {memory: 1g, cpus: "2", pids: 512}`, `limits: {cpus: "2", pids: 512}`, "postgres: has no limit of memory"},
		"an endless log":         {"max-size: 10m, ", "", "api: its log grows without end"},
		"an unset variable":      {"${SECRET_KEY:?", "${SECRET_KAY:?", "api: dev.env does not set [SECRET_KAY]"},
		"latest":                 {"axllent/mailpit:v1.27.11", "axllent/mailpit:latest", `mailpit: image "axllent/mailpit:latest" is not pinned to a version`},
		"no tag":                 {"temporalio/ui:2.34.0", "temporalio/ui", `temporal-ui: image "temporalio/ui" is not pinned to a version`},
		"a major version only":   {"postgres:16.15", "postgres:16", `postgres: image "postgres:16" is not pinned to a version`},
		"unknown setting":        {"POSTRIDER_LISTEN:", "POSTRIDER_LITSEN:", "api: 1 setting is wrong:\n  POSTRIDER_LITSEN is not a setting; did you mean POSTRIDER_LISTEN?"},
		"missing setting":        {"POSTRIDER_SMTP_URLS: ${SMTP_URLS:?see deploy/README.md}", "POSTRIDER_LOG_LEVEL: info", "worker: 1 setting is wrong:\n  POSTRIDER_SMTP_URLS is not set"},
		"wrong setting":          {"POSTRIDER_DRAIN_TIMEOUT: 2m", "POSTRIDER_DRAIN_TIMEOUT: 2", `worker: 1 setting is wrong:` + "\n" + `  POSTRIDER_DRAIN_TIMEOUT has "2"`},
		"a variable of nobody":   {"  TEMPORAL_NAMESPACE: default\n  #", "  TEMPORAL_NAMESAPCE: default\n  #", "api: nothing reads TEMPORAL_NAMESAPCE"},
		"no Temporal":            {"  TEMPORAL_ADDRESS: temporal:7233\n  TEMPORAL_NAMESPACE: default\n  #", "  TEMPORAL_NAMESPACE: default\n  #", "api: has no TEMPORAL_ADDRESS"},
		"ours to another":        {"RETENTION: 168h", "POSTRIDER_LOG_LEVEL: info", "temporal-namespace: is not ours, but is given POSTRIDER_LOG_LEVEL"},
		"no health check":        {"healthcheck:\n      test: [\"CMD\", \"/mailpit\", \"readyz\"]", "x-healthcheck:\n      test: []", "mailpit: has no health check, and nobody waits for it to complete"},
		"empty health check":     {`["CMD", "/mailpit", "readyz"]`, `["NONE"]`, `mailpit: health check ["NONE"] does not run a program`},
		"one-shot with health":   {"command: [\"migrate\", \"up\"]", "command: [\"migrate\", \"up\"]\n    healthcheck:\n      test: [\"CMD\", \"/postrider\", \"health\"]", "migrate: is waited for to complete, but has a health check"},
		"one-shot restarts":      {"  migrate:\n    <<: *postrider\n    restart: on-failure:5", "  migrate:\n    <<: *postrider\n    restart: always", `migrate: restart "always" of what has to end, want on-failure:N`},
		"service does not":       {"image: axllent/mailpit:v1.27.11\n    restart: unless-stopped", "image: axllent/mailpit:v1.27.11", `mailpit: restart "" of what runs on, want unless-stopped`},
		"unknown dependency":     {"      mailpit:\n        condition", "      mailpti:\n        condition", "worker: depends on mailpti, which is not a service"},
		"started only":           {"      mailpit:\n        condition: service_healthy", "      mailpit:\n        condition: service_started", `worker: depends on mailpit without a condition that is worth waiting for: "service_started"`},
		"healthy one-shot":       {"      temporal-namespace:\n        condition: service_completed_successfully", "      temporal-namespace:\n        condition: service_healthy", "migrate: waits for temporal-namespace to be healthy, which it never says"},
		"undeclared volume":      {"- postgres:/var", "- postgers:/var", "postgres: volume postgers is not declared"},
		"unused volume":          {"- postgres:/var", "- ./deploy:/var", "volume postgres is not used"},
		"missing bind mount":     {"./deploy/temporal/dynamicconfig.yaml:", "./deploy/temporal/dynamic.yaml:", "temporal: ./deploy/temporal/dynamic.yaml does not exist"},
		"missing Dockerfile":     {"dockerfile: Dockerfile", "dockerfile: Dokcerfile", `api: Dockerfile "Dokcerfile" does not exist in "."`},
		"missing script":         {"/deploy/schema.sh", "/deploy/schemas.sh", "temporal-schema: schemas.sh does not parse: "},
		"script not mounted":     {"/deploy/namespace.sh", "/scripts/namespace.sh", `temporal-namespace: script ["/scripts/namespace.sh"] is not mounted`},
		"port twice":             {"127.0.0.1:8233:8080", "127.0.0.1:8080:8080", "temporal-ui: port 127.0.0.1:8080 is published by api, too"},
		"port to everybody":      {`"127.0.0.1:8025:8025"`, `"8025:8025"`, "mailpit: port 8025:8025 is open to everybody"},
		"replicas with a port":   {"    deploy:\n      replicas: 2", "    ports: [\"127.0.0.1:8081:8081\"]\n    deploy:\n      replicas: 2", "worker: 2 replicas cannot share port 127.0.0.1:8081"},
		"replicas with a name":   {"    deploy:\n      replicas: 2", "    container_name: w\n    deploy:\n      replicas: 2", "worker: 2 replicas cannot share a name"},
		"unknown command":        {`command: ["worker"]`, `command: ["work"]`, `worker: postrider has no command ["work"]`},
		"a probe as a command":   {`command: ["worker"]`, `command: ["health"]`, `worker: postrider has no command ["health"]`},
		"unknown probe":          {`"/postrider", "health", "--worker", "--ready"]`, `"/postrider", "healthz", "--worker"]`, `worker: postrider has no probe ["/postrider" "healthz" "--worker"]`},
		"probe of another":       {`"/postrider", "health", "--worker", "--ready"]`, `"/postrider", "health"]`, `worker: the probe "health" is for another command than ["worker"]`},
		"a program not in there": {`"/postrider", "health", "--ready"]`, `"curl", "health", "--ready"]`, `api: postrider has no probe ["curl" "health" "--ready"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, text, m.old, "the mutation still finds its place")
			wrong, err := checkCompose([]byte(strings.Replace(text, m.old, m.new, 1)), root)
			require.NoError(t, err)
			require.True(t, slices.ContainsFunc(wrong, func(w string) bool { return strings.HasPrefix(w, m.want) }), "want %q in %q", m.want, wrong)
		})
	}
	t.Run("not YAML", func(t *testing.T) {
		t.Parallel()
		_, err := checkCompose([]byte(text+"\n\t:"), root)
		require.Error(t, err)
		_, err = checkCompose([]byte("volumes: {}"), root)
		require.EqualError(t, err, "no services")
	})
}

// Docker kills what has not stopped after the grace period.
func TestWorkersAreGivenTimeToDrain(t *testing.T) {
	t.Parallel()
	require.Contains(t, composeText(t), "POSTRIDER_DRAIN_TIMEOUT: 2m\n")
	require.Contains(t, composeText(t), "stop_grace_period: 150s ")
}

// checkDockerfile returns what is wrong with the image.
func checkDockerfile(text string) (wrong []string) {
	stages := map[string]bool{"scratch": true}
	user := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "FROM":
			user = ""
			_, version, _ := strings.Cut(words[1], ":")
			if !stages[words[1]] && !tag.MatchString(version) {
				wrong = append(wrong, "image "+words[1]+" is not pinned to a version")
			}
			if len(words) == 4 {
				stages[words[3]] = true
			}
		case "USER":
			user = words[1]
		case "COPY":
			if stage, ok := strings.CutPrefix(words[1], "--from="); ok && !stages[stage] {
				wrong = append(wrong, "no stage "+stage)
			}
		case "HEALTHCHECK":
			if !strings.HasSuffix(strings.TrimSpace(line), `CMD ["/postrider", "health"]`) {
				wrong = append(wrong, "the health check does not ask postrider")
			}
		}
	}
	if user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		wrong = append(wrong, "runs as root")
	}
	for _, need := range []string{"CGO_ENABLED=0", "-trimpath", "HEALTHCHECK", "ca-certificates.crt", `ENTRYPOINT ["/postrider"]`, `CMD ["serve"]`} {
		if !strings.Contains(text, need) {
			wrong = append(wrong, "has no "+need)
		}
	}
	return wrong
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	text := string(raw)
	require.Empty(t, checkDockerfile(text))
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	toolchain := regexp.MustCompile(`(?m)^toolchain go(\d+\.\d+\.\d+)$`).FindSubmatch(gomod)
	require.NotNil(t, toolchain)
	image := "golang:" + string(toolchain[1])
	require.Contains(t, text, image+" AS build", "the toolchain that go.mod names, which make vulncheck looks at")
	for want, m := range map[string][2]string{
		"image golang:latest is not pinned to a version": {image, "golang:latest"},
		"image alpine is not pinned to a version":        {"FROM scratch", "FROM alpine"},
		"runs as root":     {"USER 65532:65532\n", ""},
		"no stage builder": {"--from=build /out/postrider", "--from=builder /out/postrider"},
		"the health check does not ask postrider": {`CMD ["/postrider", "health"]`, `CMD ["curl", "localhost"]`},
		"has no CGO_ENABLED=0":                    {"CGO_ENABLED=0 ", ""},
		"has no ca-certificates.crt":              {"ca-certificates.crt /etc/ssl/certs/ca-certificates.crt", "x /y"},
	} {
		require.Contains(t, text, m[0])
		require.Equal(t, []string{want}, checkDockerfile(strings.Replace(text, m[0], m[1], 1)), want)
	}
}

func TestScriptsParse(t *testing.T) {
	t.Parallel()
	for shell, pattern := range map[string]string{"sh": "deploy/*/*.sh", "bash": ".ci/run"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			out, err := exec.Command(shell, "-n", file).CombinedOutput()
			require.NoError(t, err, "%s: %s", file, out)
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.NotZero(t, info.Mode()&0o111, "%s is executable", file)
		}
	}
}

// Every README of this directory and every variable of the compose file agree.
func TestVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	found := variable.FindAllStringSubmatch(composeText(t), -1)
	require.NotEmpty(t, found)
	for _, v := range found {
		require.Contains(t, string(readme), "`"+v[1]+"`")
	}
}
