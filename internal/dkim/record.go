package dkim

import "encoding/base64"

// Record is the value of the TXT record that publishes the key (RFC 6376 section 3.6.1): some 410
// bytes for RSA. One string of a TXT record has 255 bytes at most, so it is published in several.
func (k PrivateKey) Record() string {
	return "v=DKIM1; k=" + string(k.pair.algorithm) + "; p=" + base64.StdEncoding.EncodeToString(k.pair.public)
}
