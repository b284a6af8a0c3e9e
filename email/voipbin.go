package email

// VoIPBINStatus is an e-mail's status in VoIPBIN's words.
func VoIPBINStatus(e Email) string {
	switch e.Status {
	case StatusQueued:
		return "initiated"
	case StatusSending:
		if e.Detail == DetailDeferred {
			return "deferred"
		}
		return "processed"
	case StatusBounced:
		return "bounce"
	case StatusFailed, StatusCanceled:
		return "dropped"
	}
	return string(e.Status)
}

// Timestamps of VoIPBIN's API: no zone, meaning UTC, and a time that never comes
// for what has not happened.
const (
	TimestampLayout = "2006-01-02 15:04:05.000000"
	TimestampNever  = "9999-01-01 00:00:00.000000"
)
