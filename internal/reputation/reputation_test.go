package reputation_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/reputation"
)

func TestBandsAtTheirBorders(t *testing.T) {
	t.Parallel()
	const unknown, good, warning, critical = reputation.BandUnknown, reputation.BandGood, reputation.BandWarning, reputation.BandCritical
	for name, tc := range map[string]struct {
		before, want reputation.Band
		hard, sent   int64
	}{
		"nothing":                  {unknown, unknown, 0, 0},
		"all of 99 bounced":        {unknown, unknown, 99, 99},
		"1 of 100":                 {unknown, good, 1, 100},
		"just below 2 %":           {good, good, 199, 10000},
		"2 %":                      {good, warning, 200, 10000},
		"just below 5 %":           {good, warning, 499, 10000},
		"5 %":                      {good, critical, 500, 10000},
		"from unknown to critical": {unknown, critical, 5, 100},
		"warning stays at 1.6 %":   {warning, warning, 160, 10000},
		"warning ends below 1.6 %": {warning, good, 159, 10000},
		"warning does not enter critical at 4.9 %": {warning, warning, 490, 10000},
		"critical stays at 4 %":                    {critical, critical, 400, 10000},
		"critical falls to warning below 4 %":      {critical, warning, 399, 10000},
		"critical falls to warning at 1.6 %":       {critical, warning, 160, 10000},
		"critical falls to good":                   {critical, good, 159, 10000},
		"critical stays with 80":                   {critical, critical, 4, 80},
		"critical ends with 79":                    {critical, unknown, 79, 79},
		"a good rate of 85 is not known":           {warning, unknown, 0, 85},
	} {
		got := reputation.Bands{Bounce: tc.before, Complaint: unknown}.After(reputation.Counts{Sent: tc.sent, Hard: tc.hard})
		require.Equal(t, tc.want, got.Bounce, name)
		require.Equal(t, unknown, got.Complaint, name)
		require.Equal(t, tc.want, got.Band(), name)
	}
	for name, tc := range map[string]struct {
		before, want          reputation.Band
		complained, delivered int64
	}{
		"99 delivered":           {unknown, unknown, 99, 99},
		"just below 0.1 %":       {good, good, 99, 100000},
		"0.1 %":                  {good, warning, 100, 100000},
		"just below 0.3 %":       {good, warning, 299, 100000},
		"0.3 %":                  {good, critical, 300, 100000},
		"1 of 100":               {unknown, critical, 1, 100},
		"warning ends":           {warning, good, 79, 100000},
		"critical stays":         {critical, critical, 240, 100000},
		"critical falls to warn": {critical, warning, 239, 100000},
	} {
		got := reputation.Bands{Bounce: good, Complaint: tc.before}.After(reputation.Counts{Sent: tc.delivered, Delivered: tc.delivered, Complained: tc.complained})
		require.Equal(t, tc.want, got.Complaint, name)
	}
	require.Equal(t, critical, reputation.Bands{Bounce: warning, Complaint: critical}.Band(), "the worse one counts")
	require.Equal(t, good, reputation.Bands{Bounce: good, Complaint: unknown}.Band())
	require.Equal(t, unknown, reputation.Bands{}.Band())
}

func TestCause(t *testing.T) {
	t.Parallel()
	window := reputation.Counts{Sent: 812, Hard: 43, Delivered: 650, Complained: 2}
	bands := reputation.Bands{}.After(window)
	require.Equal(t, "5.3 % of 812 mails of shop.example bounced as hard in the last 7 days; 0.31 % of 650 delivered mails of shop.example were reported as spam in the last 7 days",
		bands.Cause("shop.example", window))
	window.Complained = 1
	require.Equal(t, "5.3 % of 812 mails of shop.example bounced as hard in the last 7 days", reputation.Bands{}.After(window).Cause("shop.example", window))
	require.Equal(t, "100.0 % of 100 mails of shop.example bounced as hard in the last 7 days",
		reputation.Bands{Bounce: reputation.BandCritical}.Cause("shop.example", reputation.Counts{Sent: 100, Hard: 100}))
}

func TestProviders(t *testing.T) {
	t.Parallel()
	for domain, want := range map[string]reputation.Provider{
		"gmail.com": reputation.ProviderGoogle, "googlemail.com": reputation.ProviderGoogle, "mail.gmail.com": reputation.ProviderOther,
		"yahoo.com": reputation.ProviderYahoo, "yahoo.co.uk": reputation.ProviderYahoo, "yahoo.com.br": reputation.ProviderYahoo, "ymail.com": reputation.ProviderYahoo, "aol.com": reputation.ProviderYahoo,
		"outlook.com": reputation.ProviderMicrosoft, "hotmail.fr": reputation.ProviderMicrosoft, "live.co.uk": reputation.ProviderMicrosoft, "msn.com": reputation.ProviderMicrosoft,
		"icloud.com": reputation.ProviderApple, "me.com": reputation.ProviderApple, "mac.com": reputation.ProviderApple,
		"gmx.net": reputation.ProviderGMX, "gmx.de": reputation.ProviderGMX, "web.de": reputation.ProviderGMX, "orange.fr": reputation.ProviderOrange, "wanadoo.fr": reputation.ProviderOrange,
		"comcast.net": reputation.ProviderComcast, "qq.com": reputation.ProviderTencent, "163.com": reputation.ProviderNetEase, "126.com": reputation.ProviderNetEase, "proton.me": reputation.ProviderProton,
		"live.acme.example": reputation.ProviderOther, "yahoo": reputation.ProviderOther, "shop.example": reputation.ProviderOther, "": reputation.ProviderOther,
	} {
		require.Equal(t, want, reputation.ProviderOf(domain), domain)
		require.Contains(t, reputation.Providers(), reputation.ProviderOf(domain))
	}
}
