// Package webhook makes webhook calls: the body of a delivery, its signature by
// Standard Webhooks 1.0, and the guarded POST.
//
//  1. Body is built once, in the transaction that wrote the event, and stored.
//  2. Every attempt sends those bytes under the same webhook-id, with a
//     timestamp and so a signature of its own.
//  3. endpoint.Classify classifies the answer.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/endpoint"
)

// The headers of a call. The first three are those of Standard Webhooks 1.0;
// the attempt, counted from 1, is not signed.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
	HeaderAttempt   = "x-postrider-attempt"
)

// Sign makes the webhook-signature of Standard Webhooks 1.0: for each secret
// "v1," and the base64 of HMAC-SHA256 over id.timestamp.body, separated by
// spaces, in the order given. It is empty if no secret signs: a zero Secret
// would sign with a key that everybody knows.
func Sign(id string, ts time.Time, body []byte, secrets ...endpoint.Secret) string {
	var signatures []string
	for _, s := range secrets {
		if s.IsZero() {
			continue
		}
		mac := hmac.New(sha256.New, s.Key())
		// hash.Hash never returns an error from Write.
		mac.Write([]byte(id + "." + timestamp(ts) + "."))
		mac.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " ")
}

func timestamp(ts time.Time) string { return strconv.FormatInt(ts.Unix(), 10) }
