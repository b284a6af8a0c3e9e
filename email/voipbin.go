package email

// VoIPBINStatus is an e-mail's status in VoIPBIN's e-mail API.
func VoIPBINStatus(e Email) string {
	switch e.Status {
	case StatusQueued:
		return "initiated"
	case StatusSending:
		switch e.Detail {
		case DetailDeferred, DetailIPBlocked, DetailUnauthenticated:
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

// Timestamps of VoIPBIN's e-mail API: UTC without a zone. TimestampNever stands for a time
// that is not set.
const (
	TimestampLayout = "2006-01-02 15:04:05.000000"
	TimestampNever  = "9999-01-01 00:00:00.000000"
)
