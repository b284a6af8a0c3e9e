package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/contrib/envconfig"
)

func TestSettingsMatchConfig(t *testing.T) {
	t.Parallel()
	var inTable, inStruct []string
	for _, s := range Settings() {
		inTable = append(inTable, s.Name)
	}
	for i := range reflect.TypeFor[Config]().NumField() {
		if name := reflect.TypeFor[Config]().Field(i).Tag.Get("env"); name != "" {
			inStruct = append(inStruct, name)
		}
	}
	require.ElementsMatch(t, inTable, inStruct)
}

func TestSettingsAreComplete(t *testing.T) {
	t.Parallel()
	for _, s := range Settings() {
		require.NotEmpty(t, s.Group, s.Name)
		require.NotEmpty(t, s.Example, s.Name)
		require.NotZero(t, s.Uses, s.Name)
		require.Zero(t, s.Required&^s.Uses, "%s is required by a command that does not use it", s.Name)
		require.False(t, s.Required != 0 && s.Default != "", "%s is required and has a default", s.Name)
		require.True(t, strings.HasSuffix(s.Description, "."), s.Name)
		require.NotContains(t, s.Description, "\n")
		require.NotContains(t, s.Description, "|", "it stands in a table")
	}
}

// Each example is a valid value: operators paste them.
func TestSettingsExamplesAreValid(t *testing.T) {
	t.Parallel()
	env := []string{}
	for _, s := range Settings() {
		if !strings.Contains(s.Example, " ") { // else it says in words what to write
			env = append(env, s.Name+"="+s.Example)
		}
	}
	require.Greater(t, len(env), len(Settings())-5, "most can be tried as they stand")
	_, err := Load(append(env, "POSTRIDER_SECRET_KEY="+testKey), ServeWorker, Checks{})
	require.NoError(t, err)
}

func settingRow(s Setting) string {
	value := "–"
	if s.Default != "" {
		value = "`" + s.Default + "`"
	}
	if s.DevDefault != "" {
		value += ", in dev `" + s.DevDefault + "`"
	}
	uses := s.Uses.String()
	if s.Required != 0 {
		uses += " (required, except in dev)"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |", s.Name, value, uses, s.Description)
}

var rowName = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\|")

// docRows are the table rows whose first cell is a variable, by heading.
func docRows(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	rows, heading := map[string][]string{}, ""
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
		if rowName.MatchString(line) {
			rows[heading] = append(rows[heading], strings.TrimSpace(line))
		}
	}
	return rows
}

func TestSettingsAreDocumentedOnce(t *testing.T) {
	t.Parallel()
	want := map[string][]string{}
	for _, s := range Settings() {
		want[s.Group] = append(want[s.Group], settingRow(s))
	}
	got := docRows(t)
	delete(got, "Temporal")
	require.Equal(t, want, got, "docs/configuration.md, heading by heading")
}

// lookup is an environment for the SDK.
type lookup map[string]string

func (l lookup) LookupEnv(name string) (string, bool) { v, ok := l[name]; return v, ok }
func (l lookup) Environ() (out []string) {
	for name, value := range l {
		out = append(out, name+"="+value)
	}
	return out
}

func TestTemporalVariablesAreReadByTheSDK(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/temporal.toml"
	require.NoError(t, os.WriteFile(file, []byte("[profile.default]\naddress = \"file:1\"\n[profile.true]\naddress = \"other:1\"\n"), 0o600))
	load := func(env lookup) envconfig.ClientConfigProfile {
		if env["TEMPORAL_CONFIG_FILE"] == "" {
			env["TEMPORAL_CONFIG_FILE"] = "/dev/null"
		}
		profile, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{EnvLookup: env})
		require.NoError(t, err)
		return profile
	}
	plain := load(lookup{})
	for _, name := range TemporalVariables() {
		switch name {
		case "TEMPORAL_CONFIG_FILE":
			require.Equal(t, "file:1", load(lookup{name: file}).Address)
		case "TEMPORAL_PROFILE":
			require.Equal(t, "other:1", load(lookup{name: "true", "TEMPORAL_CONFIG_FILE": file}).Address)
		default:
			require.NotEqual(t, plain, load(lookup{name: "true"}), name)
		}
	}
	require.Equal(t, plain, load(lookup{"TEMPORAL_COLOUR": "true"}), "a variable the SDK does not read changes nothing")
}

func TestTemporalVariablesAreDocumentedOnce(t *testing.T) {
	t.Parallel()
	var got []string
	for _, row := range docRows(t)["Temporal"] {
		got = append(got, rowName.FindStringSubmatch(row)[1])
	}
	require.Equal(t, TemporalVariables(), got)
}
