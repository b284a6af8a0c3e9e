package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/postrider/postrider/internal/codec"
)

func key(id string, b byte) codec.Key {
	return codec.Key{ID: id, Bytes: bytes.Repeat([]byte{b}, 32)}
}

func newCodec(t *testing.T, keys ...codec.Key) *codec.Codec {
	t.Helper()
	c, err := codec.New(keys)
	require.NoError(t, err)
	return c
}

func payload(t *testing.T, v any) *commonpb.Payload {
	t.Helper()
	p, err := converter.GetDefaultDataConverter().ToPayload(v)
	require.NoError(t, err)
	return p
}

func encode(t *testing.T, c *codec.Codec, p *commonpb.Payload) *commonpb.Payload {
	t.Helper()
	out, err := c.Encode([]*commonpb.Payload{p})
	require.NoError(t, err)
	require.Len(t, out, 1)
	return out[0]
}

func TestWhatIsEncryptedIsReadAgain(t *testing.T) {
	t.Parallel()
	c := newCodec(t, key("one", 1))
	plain := payload(t, map[string]string{"to": "bob@example.net"})
	sealed := encode(t, c, plain)
	require.NotContains(t, sealed.String(), "bob@")
	require.Equal(t, "binary/encrypted", string(sealed.GetMetadata()["encoding"]))
	require.Equal(t, "one", string(sealed.GetMetadata()["encryption-key-id"]))
	require.NotEqual(t, sealed.GetData(), encode(t, c, plain).GetData(), "another nonce each time")
	require.True(t, proto.Equal(sealed, encode(t, c, sealed)), "not twice")
	got, err := c.Decode([]*commonpb.Payload{sealed, plain})
	require.NoError(t, err)
	require.True(t, proto.Equal(plain, got[0]))
	require.True(t, proto.Equal(plain, got[1]), "histories from before the keys")
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	before := newCodec(t, key("old", 1))
	sealed := encode(t, before, payload(t, "x"))
	after := newCodec(t, key("new", 2), key("old", 1))
	_, err := after.Decode([]*commonpb.Payload{sealed, encode(t, after, payload(t, "y"))})
	require.NoError(t, err)
	_, err = before.Decode([]*commonpb.Payload{encode(t, after, payload(t, "y"))})
	require.ErrorContains(t, err, `needs the key "new": add it to POSTRIDER_PAYLOAD_KEYS`)
	_, err = newCodec(t, key("old", 3)).Decode([]*commonpb.Payload{sealed})
	require.ErrorContains(t, err, `the key "old" did not make this payload`)
	sealed.Data[20] ^= 1
	_, err = before.Decode([]*commonpb.Payload{sealed})
	require.Error(t, err, "altered")
	sealed.Data = sealed.Data[:5]
	_, err = before.Decode([]*commonpb.Payload{sealed})
	require.ErrorContains(t, err, "5 bytes")
}

func TestKeysAreChecked(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]codec.Key{nil, {key("", 1)}, {key("a", 1), key("a", 2)}, {{ID: "a", Bytes: make([]byte, 16)}}} {
		_, err := codec.New(keys)
		require.Error(t, err)
	}
}

func TestFailuresAreEncrypted(t *testing.T) {
	t.Parallel()
	var opts client.Options
	newCodec(t, key("one", 1)).Apply(&opts)
	f := opts.FailureConverter.ErrorToFailure(errors.New("550 no such user"))
	require.NotContains(t, f.String(), "no such user")
	require.ErrorContains(t, opts.FailureConverter.FailureToError(f), "no such user")
}

const (
	token = "0123456789abcdef"
	ui    = "http://temporal.example.com:8233"
)

type reply struct {
	status int
	header http.Header
	body   string
}

// ask sends what the UI sends: payloads as JSON.
func ask(t *testing.T, method, url string, header map[string]string, body string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	data, err := io.ReadAll(res.Body)
	require.NoError(t, errors.Join(err, res.Body.Close()))
	return reply{res.StatusCode, res.Header, string(data)}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	c := newCodec(t, key("one", 1))
	srv := httptest.NewServer(c.Handler(token, ui+"/some/path"))
	t.Cleanup(srv.Close)
	sealed, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{encode(t, c, payload(t, "secret words"))}})
	require.NoError(t, err)
	bearer := map[string]string{"Authorization": "Bearer " + token, "Content-Type": "application/json", "X-Namespace": "default", "Origin": ui}

	res := ask(t, "POST", srv.URL+"/codec/decode", bearer, string(sealed))
	require.Equal(t, http.StatusOK, res.status, res.body)
	var out struct {
		Payloads []struct{ Data []byte }
	}
	require.NoError(t, json.Unmarshal([]byte(res.body), &out))
	require.Equal(t, `"secret words"`, string(out.Payloads[0].Data))
	require.Equal(t, ui, res.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "true", res.header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "no-store", res.header.Get("Cache-Control"))

	res = ask(t, "POST", srv.URL+"/codec/"+token+"/decode", nil, string(sealed))
	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Empty(t, res.header.Get("Access-Control-Allow-Origin"))
	plain, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{payload(t, "a signal's input")}})
	require.NoError(t, err)
	res = ask(t, "POST", srv.URL+"/codec/encode", bearer, string(plain))
	require.Equal(t, http.StatusOK, res.status, res.body)
	require.Contains(t, res.body, "encryption-key-id")

	for name, url := range map[string]string{"none": "/codec/decode", "wrong in the path": "/codec/" + token + "x/decode", "not before decode": "/codec/" + token + "/x/decode", "root": "/decode"} {
		res = ask(t, "POST", srv.URL+url, nil, string(sealed))
		require.Equal(t, http.StatusUnauthorized, res.status, "%s: %s", name, res.body)
	}
	res = ask(t, "POST", srv.URL+"/codec/"+token+"/decode", map[string]string{"Authorization": "Bearer wrong"}, string(sealed))
	require.Equal(t, http.StatusUnauthorized, res.status, "the header counts where there is one")
	res = ask(t, "GET", srv.URL+"/codec/decode", bearer, "")
	require.Equal(t, http.StatusMethodNotAllowed, res.status)
	res = ask(t, "POST", srv.URL+"/codec/decode", bearer, "not JSON")
	require.Equal(t, http.StatusBadRequest, res.status)
	res = ask(t, "POST", srv.URL+"/codec/decode", bearer, `{"payloads":[{"metadata":{"encoding":"`+strings.Repeat("A", 17<<20)+`"}}]}`)
	require.Equal(t, http.StatusBadRequest, res.status, "too large")
}

func TestPreflight(t *testing.T) {
	t.Parallel()
	c := newCodec(t, key("one", 1))
	srv := httptest.NewServer(c.Handler(token, ui))
	t.Cleanup(srv.Close)
	asked := map[string]string{"Origin": ui, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,x-namespace"}
	res := ask(t, "OPTIONS", srv.URL+"/codec/decode", asked, "")
	require.Equal(t, http.StatusNoContent, res.status, "without a token: browsers send none")
	require.Equal(t, ui, res.header.Get("Access-Control-Allow-Origin"))
	require.Equal(t, "POST", res.header.Get("Access-Control-Allow-Methods"))
	for _, h := range []string{"Authorization", "Content-Type", "X-Namespace"} {
		require.Contains(t, res.header.Get("Access-Control-Allow-Headers"), h)
	}
	for _, origin := range []string{"http://evil.example", "http://temporal.example.com", "null", ui + ".evil.example"} {
		asked["Origin"] = origin
		res = ask(t, "OPTIONS", srv.URL+"/codec/decode", asked, "")
		require.Empty(t, res.header.Get("Access-Control-Allow-Origin"), origin)
	}
}
