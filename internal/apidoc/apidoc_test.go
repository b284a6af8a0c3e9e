package apidoc_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/apidoc"
)

const small = `openapi: 3.1.0
info:
  title: <b>Small</b>
  version: '1.10'
  description: |
    One & **two**, ` + "`<three>`" + `.

    - a
    - b
servers: [{url: /}]
tags: [{name: Two words}]
paths:
  /b/{id}:
    put:
      operationId: putB
      tags: [Two words]
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/B'}, example: {it's: "<x>"}}}}
      responses: {'200': {description: d}}
  /a:
    get: {operationId: getA, tags: [Two words], responses: {}}
components:
  schemas:
    B:
      type: object
      required: [z]
      properties:
        z: {type: [integer, 'null'], minimum: 1, default: 5}
        a: {type: array, items: {$ref: '#/components/schemas/C'}}
    C: {type: string, enum: [x, '']}
`

func parse(t *testing.T, text string) apidoc.Document {
	t.Helper()
	doc, err := apidoc.Parse([]byte(text))
	require.NoError(t, err)
	return doc
}

func TestMembersKeepTheirOrder(t *testing.T) {
	t.Parallel()
	out, err := parse(t, "b: 1\na: ['1.10', 1.5, true, null, \"<&>\"]\n").JSON()
	require.NoError(t, err)
	require.Equal(t, "{\n  \"b\": 1,\n  \"a\": [\n    \"1.10\",\n    1.5,\n    true,\n    null,\n    \"<&>\"\n  ]\n}", string(out))
}

func TestWhatIsNoDocument(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "- a", "{", "a: b: c"} {
		_, err := apidoc.Parse([]byte(text))
		require.Error(t, err, text)
	}
	_, err := parse(t, "a: &x 1\nb: *x\n").JSON()
	require.ErrorContains(t, err, "line 2")
	require.ErrorContains(t, parse(t, "a: 1\n").SetServer("https://x.test"), "no servers")
}

func TestThePage(t *testing.T) {
	t.Parallel()
	html, _, err := parse(t, small).Page()
	require.NoError(t, err)
	page := string(html)
	for _, want := range []string{
		"<h1>&lt;b&gt;Small&lt;/b&gt;</h1>",
		"<p>One &amp; <strong>two</strong>, <code>&lt;three&gt;</code>.</p><ul><li>a</li><li>b</li></ul>",
		`<h2 id="two-words">Two words</h2>`,
		`curl -s --request PUT &#34;$POSTRIDER_URL/b/$ID&#34;`,
		`&#34;it&#39;\&#39;&#39;s&#34;: &#34;&lt;x&gt;&#34;`, // the shell's own quoting
		"<td>integer or null; from 1, default <code>5</code></td>",
		`<td>list of <a href="#schema-C">C</a></td>`,
		"string; one of <code>&#34;x&#34;</code> <code>&#34;&#34;</code>",
		`<code>z</code> <span class="dim">required</span>`,
	} {
		require.Contains(t, page, want)
	}
	require.NotContains(t, page, "<x>")
}

func TestThePageNeedsWhatItRefersTo(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"paths: {/a: {get: {tags: [None]}}}\n",
		"paths: {/a: {get: {operationId: a}}}\n",
		"tags: [{name: A}]\npaths: {/a: {get: {tags: [A], responses: {'200': {$ref: '#/components/responses/None'}}}}}\n",
		"components: {schemas: {A: {type: object, properties: {b: {$ref: '#/components/schemas/None'}}}}}\n",
	} {
		_, _, err := parse(t, text).Page()
		require.ErrorContains(t, err, "there is no ", text)
	}
}
