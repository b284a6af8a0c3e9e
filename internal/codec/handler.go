package codec

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"

	"go.temporal.io/sdk/converter"
)

// maxRequestBytes bounds a request: a page of a history.
const maxRequestBytes = 16 << 20

// Handler answers Temporal's remote codec protocol, POST /encode and /decode, to clients
// that have the token. The CLI sends it as `Authorization: Bearer`. A UI without sign-in
// can only send it as the path's element before /decode. uiURL is the UI whose pages may call; empty means none.
func (c *Codec) Handler(token, uiURL string) http.Handler {
	codec := converter.NewPayloadCodecHTTPHandler(c)
	ui := origin(uiURL)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Add("Vary", "Origin")
		if from := r.Header.Get("Origin"); from != "" && ui != "" && strings.EqualFold(from, ui) {
			w.Header().Set("Access-Control-Allow-Origin", from)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			if r.Method == http.MethodOptions {
				w.Header().Set("Access-Control-Allow-Methods", "POST")
				w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace")
				w.Header().Set("Access-Control-Max-Age", "600")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST, OPTIONS")
			http.Error(w, "POST payloads to …/encode or …/decode", http.StatusMethodNotAllowed)
			return
		}
		if !same(given(r), token) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the token is missing or wrong: it is POSTRIDER_CODEC_TOKEN", http.StatusUnauthorized)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRequestBytes)
		codec.ServeHTTP(w, r)
	})
}

// given is the token of a request: the header's, if it has one.
func given(r *http.Request) string {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return bearer
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[len(parts)-2]
}

// same compares in a time that tells nothing.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return b != "" && subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
