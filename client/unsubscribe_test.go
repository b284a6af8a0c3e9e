package client_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
)

func TestUnsubscribeInJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]client.Unsubscribe{"true": {}, "false": {Off: true}, `{"topic":"news"}`: {Topic: "news"}} {
		made, err := json.Marshal(client.Message{Unsubscribe: &want})
		require.NoError(t, err)
		require.Contains(t, string(made), `"unsubscribe":`+text)
		var read client.Unsubscribe
		require.NoError(t, json.Unmarshal([]byte(text), &read))
		require.Equal(t, want, read)
	}
	var e client.Email
	require.NoError(t, json.Unmarshal([]byte(`{"unsubscribe":true}`), &e))
	require.Equal(t, &client.Unsubscribe{}, e.Unsubscribe)
	require.NoError(t, json.Unmarshal([]byte(`{}`), &e))
	require.Error(t, json.Unmarshal([]byte(`{"unsubscribe":"x"}`), &e))
}
