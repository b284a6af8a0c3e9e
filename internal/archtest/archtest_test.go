package archtest

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheTree(t *testing.T) {
	t.Parallel()
	wrong, seen, err := check("../..", rules)
	require.NoError(t, err)
	require.Empty(t, wrong)
	require.Empty(t, stale(rules, seen))
	for _, pkg := range []string{"email", "internal/archtest", "internal/config"} {
		require.Contains(t, seen, pkg, "the walk reaches the tree")
	}
}

// The API knows no adapter: all it does goes through interfaces of its own.
func TestTheAPIKnowsNoAdapter(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{"workflows", "activities", "internal/smtp", "internal/relay", "db", "internal/dispatch"} {
		require.NotContains(t, rules["api"].may, pkg)
		root := tree(t, map[string]string{"api/x.go": `package api; import _ "` + module + `/` + pkg + `"`})
		wrong, _, err := check(root, rules)
		require.NoError(t, err)
		require.Len(t, wrong, 1, pkg)
	}
	require.NotContains(t, rules["api"].may, everything)
}

func TestTheTableIsClosed(t *testing.T) {
	t.Parallel()
	for pkg, r := range rules {
		for _, target := range append(slices.Clone(r.may), r.tests...) {
			require.True(t, target == everything || slices.Contains(keys(rules), target), "%s may import %s, which has no rule", pkg, target)
		}
	}
	for _, pkg := range domain {
		require.Equal(t, rule{standardOnly: true}, rules[pkg], pkg)
	}
}

func TestCheckGoesRed(t *testing.T) {
	t.Parallel()
	const m = module
	for name, tt := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"what is allowed is let be": {files: map[string]string{
			"email/a.go":                       `package email; import ("time"; _ "encoding/json/jsontext"; _ "github.com/google/uuid")`,
			"email/a_test.go":                  `package email_test; import (_ "` + m + `/email"; _ "github.com/stretchr/testify/require")`,
			"workflows/a.go":                   `package workflows; import (_ "` + m + `/activities"; _ "go.temporal.io/sdk/workflow")`,
			"workflows/a_test.go":              `package workflows; import _ "` + m + `/internal/devstack"`,
			"api/a_test.go":                    `package api_test; import (_ "` + m + `/api"; _ "` + m + `/db")`,
			"db/a_test.go":                     `package db; import _ "` + m + `/internal/dbtest"`,
			"cmd/postrider/a.go":               `package main; import (_ "` + m + `/db"; _ "` + m + `/internal/config")`,
			"bench/go.mod":                     "module other\n",
			"bench/a.go":                       `package bench; import _ "` + m + `/db"`,
			".postrider/a.go":                  `not Go`,
			"internal/smtp/testdata/broken.go": `not Go`,
		}},
		"forbidden": {
			files: map[string]string{"internal/render/a.go": `package render; import _ "` + m + `/internal/smtp"`},
			want:  []string{"internal/render/a.go: internal/render may import email, internal/header, internal/plaintext, internal/unsubscribe, but not internal/smtp"},
		},
		"nothing allowed": {
			files: map[string]string{"internal/safehttp/a.go": `package safehttp; import _ "` + m + `/email"`},
			want:  []string{"internal/safehttp/a.go: internal/safehttp may import nothing of this module, but imports email"},
		},
		"unlisted": {
			files: map[string]string{"internal/util/a.go": `package util`, "internal/util/b.go": `package util; import _ "` + m + `/db"`},
			want:  []string{"internal/util is not in the table of internal/archtest: add it, and say what it may import"},
		},
		"unlisted below a listed one": {
			files: map[string]string{"db/models/a.go": `package models`},
			want:  []string{"db/models is not in the table of internal/archtest: add it, and say what it may import"},
		},
		"unlisted target": {
			files: map[string]string{"activities/a.go": `package activities; import _ "` + m + `/internal/intake/deep"`},
			want: []string{"activities/a.go: activities may import email, internal/account, internal/endpoint, internal/mailbox, internal/delivery, internal/intake, internal/membudget, internal/missing, internal/dkim, internal/dnslookup, internal/senderdomain, " +
				"but not internal/intake/deep"},
		},
		"domain with another module": {
			files: map[string]string{"internal/mailbox/a.go": `package mailbox; import _ "github.com/emersion/go-message"`},
			want: []string{"internal/mailbox/a.go: internal/mailbox may import the standard library and github.com/google/uuid only, " +
				"but imports github.com/emersion/go-message"},
		},
		"domain with another package of an excepted module": {
			files: map[string]string{"email/a.go": `package email; import _ "github.com/google/uuid/deep"`},
			want: []string{"email/a.go: email may import the standard library and github.com/google/uuid only, " +
				"but imports github.com/google/uuid/deep"},
		},
		"one message knows nothing of many": {
			files: map[string]string{"internal/intake/a.go": `package intake; import _ "` + m + `/internal/mailmerge"`},
			want:  []string{"internal/intake/a.go: internal/intake may import email, internal/delivery, internal/header, internal/htmltext, internal/suppression, internal/unsubscribe, but not internal/mailmerge"},
		},
		"HTML to text knows no e-mail": {
			files: map[string]string{"internal/htmltext/a.go": `package htmltext; import _ "` + m + `/email"`},
			want:  []string{"internal/htmltext/a.go: internal/htmltext may import nothing of this module, but imports email"},
		},
		"advice with the network": {
			files: map[string]string{"internal/advice/a.go": `package advice; import (_ "golang.org/x/net/html"; _ "golang.org/x/net/http2")`},
			want:  []string{"internal/advice/a.go: internal/advice may import the standard library and github.com/google/uuid, golang.org/x/net/html only, but imports golang.org/x/net/http2"},
		},
		"the client with another module": {
			files: map[string]string{"client/a.go": `package client; import (_ "` + m + `/email"; _ "github.com/gin-gonic/gin")`},
			want:  []string{"client/a.go: client may import the standard library and github.com/google/uuid only, but imports github.com/gin-gonic/gin"},
		},
		"workflows with db": {
			files: map[string]string{"workflows/a.go": `package workflows; import _ "` + m + `/db"`},
			want:  []string{"workflows/a.go: workflows may import email, internal/delivery, activities, but not db"},
		},
		"the command line with the store": {
			files: map[string]string{"internal/sendcli/a.go": `package sendcli; import (_ "` + m + `/client"; _ "` + m + `/db")`},
			want:  []string{"internal/sendcli/a.go: internal/sendcli may import client, email, internal/config, internal/mailmerge, internal/plaintext, but not db"},
		},
		"config elsewhere": {
			files: map[string]string{"api/a.go": `package api; import _ "` + m + `/internal/config"`},
			want:  []string{"api/a.go: internal/config is imported by cmd/postrider and internal/sendcli and deploy only, not by api"},
		},
		"a part of db outside db": {
			files: map[string]string{"cmd/postrider/a.go": `package main; import _ "` + m + `/db/files"`},
			want:  []string{"cmd/postrider/a.go: db/files is imported by db and db/mailboxes and db/mail only, not by cmd/postrider"},
		},
		"a test helper outside tests": {
			files: map[string]string{"db/a.go": `package db; import _ "` + m + `/internal/dbtest"`},
			want:  []string{"db/a.go: db may import db/internal/pg, db/files, db/mailboxes, db/webhooks, db/suppressions, db/accounts, db/mail, db/reputation, email, internal/delivery, internal/endpoint, but not internal/dbtest"},
		},
		"a test keeps to the table, too": {
			files: map[string]string{"workflows/a_test.go": `package workflows_test; import _ "` + m + `/db"`},
			want:  []string{"workflows/a_test.go: workflows may import email, internal/delivery, activities, but not db"},
		},
		"a test inside the package keeps to the table": {
			files: map[string]string{"api/a_test.go": `package api; import _ "` + m + `/db"`},
			want: []string{"api/a_test.go: api may import email, internal/account, internal/endpoint, internal/mailbox, internal/intake, internal/mailmerge, internal/advice, " +
				"internal/apidoc, internal/spool, internal/turns, internal/membudget, internal/missing, internal/httpserver, internal/portion, internal/reputation, internal/senderdomain, internal/suppression, internal/unsubscribe, but not db"},
		},
		"the root": {
			files: map[string]string{"main.go": `package postrider`, "api/a.go": `package api; import _ "` + m + `"`},
			want: []string{
				". is not in the table of internal/archtest: add it, and say what it may import",
				"api/a.go: nothing is at the root of the module",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, _, err := check(tree(t, tt.files), rules)
			require.NoError(t, err)
			require.Equal(t, tt.want, wrong)
		})
	}
	t.Run("a file that is not Go is an error", func(t *testing.T) {
		t.Parallel()
		_, _, err := check(tree(t, map[string]string{"api/a.go": "pakcage api"}), rules)
		require.Error(t, err)
	})
}

func TestARuleWithoutAPackageIsRefused(t *testing.T) {
	t.Parallel()
	root := tree(t, map[string]string{"email/a.go": "package email"})
	table := map[string]rule{"email": {standardOnly: true}, "internal/gone": {}}
	wrong, seen, err := check(root, table)
	require.NoError(t, err)
	require.Empty(t, wrong)
	require.Equal(t, []string{"internal/gone is in the table of internal/archtest and not in the tree: take it out"}, stale(table, seen))
}

// tree makes files in a directory of their own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	return root
}

func keys(m map[string]rule) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	return out
}
