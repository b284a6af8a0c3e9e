package config

// TemporalVariables are the variables that the Temporal SDK reads (package contrib/envconfig,
// v1.0.2). The documentation lists them, and suggestions for misspelt names use them.
func TemporalVariables() []string {
	return []string{
		"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_API_KEY",
		"TEMPORAL_TLS", "TEMPORAL_TLS_CLIENT_CERT_PATH", "TEMPORAL_TLS_CLIENT_CERT_DATA",
		"TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_CLIENT_KEY_DATA",
		"TEMPORAL_TLS_SERVER_CA_CERT_PATH", "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
		"TEMPORAL_TLS_SERVER_NAME", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION",
		"TEMPORAL_CLIENT_AUTHORITY",
		"TEMPORAL_CONFIG_FILE", "TEMPORAL_PROFILE",
	}
}
