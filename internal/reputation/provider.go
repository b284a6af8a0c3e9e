package reputation

import (
	"slices"
	"strings"
)

// Provider is a receiving provider of mail: the company behind recipients' domains.
type Provider string

// The providers. ProviderOther is every domain that the table does not have, those that a provider
// hosts for its customers included.
const (
	ProviderGoogle    Provider = "google"
	ProviderYahoo     Provider = "yahoo"
	ProviderMicrosoft Provider = "microsoft"
	ProviderApple     Provider = "apple"
	ProviderGMX       Provider = "gmx"
	ProviderOrange    Provider = "orange"
	ProviderComcast   Provider = "comcast"
	ProviderTencent   Provider = "tencent"
	ProviderNetEase   Provider = "netease"
	ProviderProton    Provider = "proton"
	ProviderOther     Provider = "other"
)

// Providers lists all of them.
func Providers() []Provider {
	return []Provider{
		ProviderGoogle, ProviderYahoo, ProviderMicrosoft, ProviderApple, ProviderGMX, ProviderOrange, ProviderComcast,
		ProviderTencent, ProviderNetEase, ProviderProton, ProviderOther,
	}
}

var providerOf = map[string]Provider{
	"gmail.com": ProviderGoogle, "googlemail.com": ProviderGoogle,
	"aol.com": ProviderYahoo, "aim.com": ProviderYahoo, "ymail.com": ProviderYahoo, "rocketmail.com": ProviderYahoo, "myyahoo.com": ProviderYahoo,
	"msn.com": ProviderMicrosoft, "windowslive.com": ProviderMicrosoft, "passport.com": ProviderMicrosoft,
	"icloud.com": ProviderApple, "me.com": ProviderApple, "mac.com": ProviderApple,
	"web.de": ProviderGMX, "orange.fr": ProviderOrange, "wanadoo.fr": ProviderOrange, "comcast.net": ProviderComcast,
	"qq.com": ProviderTencent, "vip.qq.com": ProviderTencent, "foxmail.com": ProviderTencent,
	"163.com": ProviderNetEase, "126.com": ProviderNetEase, "yeah.net": ProviderNetEase,
	"proton.me": ProviderProton, "protonmail.com": ProviderProton, "protonmail.ch": ProviderProton, "pm.me": ProviderProton,
}

// countryNames are providers whose domains exist below many country codes.
var countryNames = map[string]Provider{
	"yahoo": ProviderYahoo, "aol": ProviderYahoo,
	"outlook": ProviderMicrosoft, "hotmail": ProviderMicrosoft, "live": ProviderMicrosoft,
	"gmx": ProviderGMX,
}

// secondLevels stand before a country code where a country registers names on the third level.
var secondLevels = []string{"co", "com", "net", "org", "ne"}

// ProviderOf returns the provider of a recipient's domain, in lower case with A-labels.
func ProviderOf(domain string) Provider {
	if p, ok := providerOf[domain]; ok {
		return p
	}
	name, suffix, _ := strings.Cut(domain, ".")
	p, ok := countryNames[name]
	if !ok || suffix == "" {
		return ProviderOther
	}
	if second, country, three := strings.Cut(suffix, "."); three && (!slices.Contains(secondLevels, second) || len(country) != 2) {
		return ProviderOther
	}
	return p
}
