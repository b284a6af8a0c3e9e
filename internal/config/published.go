package config

import (
	"net/url"
	"strings"
)

// published is the prefix of every password and key in deploy/dev.env, which is public.
const published = "dev-only-"

// checkPublished refuses the secrets that are public in this repository: the values of
// deploy/dev.env and the examples of the documentation. POSTRIDER_SECRET_KEY_OLD may be one, so
// that an installation can replace it.
func (c Config) checkPublished() Problems {
	if c.Dev || c.AllowPublishedSecrets {
		return nil
	}
	var out Problems
	refuse := func(name, kind, instead string) {
		out = append(out, Problem{Name: name, Wrong: kind + " that everybody can read in this product's repository: " + instead +
			", or set POSTRIDER_ALLOW_PUBLISHED_SECRETS=true for a trial on a machine that nobody else reaches"})
	}
	if u, err := url.Parse(c.DatabaseURL.Reveal()); err == nil {
		password, _ := u.User.Password()
		if strings.HasPrefix(password, published) || strings.HasPrefix(u.Query().Get("password"), published) {
			refuse("DATABASE_URL", "has a password", "give the role another one (ALTER ROLE … PASSWORD)")
		}
	}
	if strings.HasPrefix(string(c.SecretKey.Bytes()), published) {
		refuse("POSTRIDER_SECRET_KEY", "is a key", "make one with: openssl rand -base64 32; where it has sealed secrets already, make it POSTRIDER_SECRET_KEY_OLD and run: postrider secret rotate")
	}
	var example PayloadKeys
	if err := example.UnmarshalText([]byte(find("POSTRIDER_PAYLOAD_KEYS").Example)); err == nil && len(c.PayloadKeys) > 0 {
		if first := string(c.PayloadKeys[0].Bytes()); strings.HasPrefix(first, published) || first == string(example[0].Bytes()) {
			refuse("POSTRIDER_PAYLOAD_KEYS", "encrypts with a key", "put another one before it: openssl rand -base64 32")
		}
	}
	for name, token := range map[string]Secret{"POSTRIDER_METRICS_TOKEN": c.MetricsToken, "POSTRIDER_CODEC_TOKEN": c.CodecToken} {
		if text := token.Reveal(); strings.HasPrefix(text, published) || text != "" && text == find(name).Example {
			refuse(name, "is a token", "make one with: openssl rand -hex 16")
		}
	}
	return out
}
